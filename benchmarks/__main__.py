"""All of the speed in one table, ratios first: `python -m benchmarks` (`--quick` for a first look).

Everything that is compared runs in turns in one process, so that a ratio holds on a busy machine; seconds
do so only on an idle one. The search, GPT-2 and the floor use one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read as torch is imported

import torch
from PIL import Image

from benchmarks import caption, floor, folder, gpt2, pages, startup
from captionbot import CaptionBotError, Captioner, load_image
from captionbot.decoders.gpt2_prefix import GPT2PrefixConfig, GPT2PrefixDecoder
from captionbot.decoders.soft_attention import SoftAttentionConfig
from captionbot.encoders import grid_boxes
from captionbot.images import to_pixel_values
from captionbot.render import word_overlay
from captionbot.types import Caption, Features, Size

PARTS = ("search", "gpt2", "photo", "folder", "start")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and write it as JSON where asked; 0, or 2 with one sentence for what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--model", metavar="NAME_OR_DIR", help="the captioner (default: the one that ships)")
    parser.add_argument("--rounds", type=int, help="(default: 3, quick 1)")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    args = parser.parse_args(argv)
    rounds, quick = args.rounds or (1 if args.quick else 3), args.quick
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "search": partial(search, rounds),
        "gpt2": partial(against_generate, rounds, quick),
        "photo": partial(stages, args.model, rounds),
        "folder": partial(folder.measure, args.model, 24 if quick else 200, rounds),
        "start": partial(startup.measure, rounds),
    }
    numbers: dict[str, float] = {}
    try:
        for part in args.parts:
            print(f"{part} …", file=sys.stderr, flush=True)
            with redirect_stdout(sys.stderr):
                numbers |= parts[part]()
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        return 2
    numbers = {name: numbers[name] for name in sorted(numbers, key=lambda name: "times" not in name)}
    print(table(numbers))
    if args.json:
        about = {"machine": machine(), "rounds": rounds, "quick": quick, "numbers": numbers}
        args.json.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return 0


def table(numbers: dict[str, float]) -> str:
    """In Markdown, a line a number."""
    rows = (f"| {name} | {value:.3g} |" if value < 1000 else f"| {name} | {value:,.0f} |"
            for name, value in numbers.items())  # fmt: skip
    return "\n".join(["| | |", "|---|---|", *rows])


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    names = [line.partition(": ")[2] for line in _cpuinfo() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def search(rounds: int) -> dict[str, float]:
    """Our search against the plain ones, and against the floor of the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        numbers = {f"search, {name}": value for name, value in caption.search_ratios(rounds).items()}
    finally:
        torch.set_num_threads(threads)
    config = SoftAttentionConfig(caption.VOCABULARY, caption.CHANNELS)
    work = floor.search_flop(config, caption.GRID**2, caption.WORDS, 5) / 1e9
    peaks = {"fp32": floor.gflops(torch.float32), "bf16": floor.gflops(torch.bfloat16)}
    numbers["floor, 20 words at beam 5: GFLOP an image"] = work
    numbers["floor, memory: GiB a second"] = floor.bandwidth()
    for kind, speed in peaks.items():
        numbers[f"floor, {kind}: GFLOP a second"] = speed
        numbers[f"floor, {kind}: ms an image"] = 1000 * work / speed
    for batch, (way, peak) in product(caption.BATCHES, (("batched", "fp32"), ("fast", "bf16"))):
        taken = numbers[f"search, batch {batch}: seconds, {way}"] / batch
        numbers[f"search, batch {batch}: {way}, times the {peak} floor"] = taken * peaks[peak] / work
    return numbers


def against_generate(rounds: int, quick: bool) -> dict[str, float]:
    """Our search over a GPT-2 against the `generate` of `transformers`, at beam 5."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    words, layers, width = (1000, 2, 128) if quick else (50261, 12, 768)
    config = GPT2PrefixConfig(words, 1280, layers=layers, hidden_size=width, heads=width // 64)
    decoder = GPT2PrefixDecoder(config).eval().requires_grad_(False)
    twin, packed = gpt2.as_transformers(decoder), caption.as_loaded(decoder, "float32")
    numbers: dict[str, float] = {}
    try:
        for batch in gpt2.BATCHES:
            features = Features(torch.randn(batch, 64, 1280), grid_boxes(8, 8), (8, 8))
            runs = {
                "search": partial(gpt2.search, packed, features),
                "generate": partial(gpt2.generate, twin, decoder, features),
            }
            same = sum(a == b for a, b in zip(runs["search"](), runs["generate"](), strict=True))
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _, (name, run) in product(range(rounds), runs.items()):
                times[name].append(caption.seconds(run))
            ratios = (b / a for a, b in zip(times["search"], times["generate"], strict=True))
            numbers[f"GPT-2, batch {batch}: times as fast as generate"] = median(ratios)
            numbers[f"GPT-2, batch {batch}: share of captions that are the same"] = same / batch
            for name, taken in times.items():
                numbers[f"GPT-2, batch {batch}: seconds, {name}"] = median(taken)
    finally:
        torch.set_num_threads(threads)
    return numbers


def stages(model: str | None, rounds: int) -> dict[str, float]:
    """Milliseconds of each stage from a photo's bytes to its heatmaps, at beam 5, the captioner loaded."""
    captioner = Captioner.from_pretrained(model, device="cpu")
    data = pages.photo(0)
    options = captioner.options(beam_size=5)
    taken: dict[str, list[float]] = {}

    def timed(stage: str, run: Callable[[], Any]) -> Any:
        found: list[Any] = []
        taken.setdefault(stage, []).append(1000 * caption.seconds(lambda: found.append(run())))
        return found[0]

    for _ in range(rounds + 1):
        image = timed("load", partial(load_image, data))
        pixels = timed("squash", partial(to_pixel_values, [image], captioner.preprocessing))
        features = timed("encode", partial(captioner.encode_pixels, pixels))
        sizes = [Size(*image.size)]
        (found,) = timed("search", partial(captioner.caption_features, features, sizes, options))
        timed("heatmaps", partial(heatmaps, image, found.captions[0]))
    medians = {stage: median(times[1:]) for stage, times in taken.items()}  # the first warms up
    return {
        **{f"one photo, {stage}: ms": value for stage, value in medians.items()},
        "one photo, all of it: ms": sum(medians.values()),
    }


def heatmaps(image: Image.Image, best: Caption) -> list[Image.Image]:
    return [word_overlay(image, best, t) for t in range(len(best.words))]


if __name__ == "__main__":
    sys.exit(main())
