"""How fast captions come: `python -m benchmarks.caption`.

First the batched search against two plain ones, in turns, so that the ratios hold on a busy machine
too: "plain" runs one hypothesis at a time, and "tutorial" works out what depends on the image alone
before every word as well, as tutorials do. Both have the decoder as PyTorch runs it; ours has it as a
captioner loads it, and "fast" with CAPTIONBOT_PRECISION=bfloat16. Then the captioner itself: one photo
with its heatmaps, and a folder through the command line. Every number is the median of several rounds.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice, product
from pathlib import Path
from statistics import median

import torch

from benchmarks.plain_search import plain_search
from captionbot import CaptionBotError, Captioner, SearchOptions, arithmetic, load_image
from captionbot.beam_search import beam_search
from captionbot.decoders import Decoder
from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder
from captionbot.images import image_extensions
from captionbot.render import word_overlay
from captionbot.types import Features

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"
FOLDER_SIZE = 200
BATCHES = (1, 8, 32)
VOCABULARY, GRID, CHANNELS, WORDS = 7500, 14, 1024, 20


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a number; 0, or 2 with one sentence where something is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caption", description=__doc__)
    parser.add_argument("--photos", type=Path, default=PHOTOS, metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--model", metavar="NAME_OR_DIR", help="the captioner (default: the one that ships)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: all cores)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    results: dict[str, float] = {}
    try:
        results |= search_ratios(args.rounds)
        results |= one_photo(args.model, args.photos, args.rounds)
        results |= folder(args.model, args.photos, args.rounds, args.threads)
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if args.json:
            args.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


def search_ratios(rounds: int) -> dict[str, float]:
    """The batched search against the plain ones: beam 5, exactly 20 words, random weights."""
    torch.manual_seed(0)
    decoder = SoftAttentionDecoder(SoftAttentionConfig(VOCABULARY, CHANNELS)).eval().requires_grad_(False)
    options = SearchOptions(beam_size=5, min_length=WORDS, max_length=WORDS)
    searches: dict[str, Callable] = {
        "batched": partial(beam_search, as_loaded(decoder, "float32")),
        "fast": partial(beam_search, as_loaded(decoder, "bfloat16")),
        "plain": partial(plain_search, decoder),
        "tutorial": partial(plain_search, decoder, once_an_image=False),
    }
    results: dict[str, float] = {}
    for batch in BATCHES:
        features = Features(torch.randn(batch, GRID**2, CHANNELS), torch.zeros(1, GRID**2, 4), (GRID, GRID))
        times: dict[str, list[float]] = {name: [] for name in searches}
        for _, (name, search) in product(range(rounds), searches.items()):
            times[name].append(seconds(partial(search, features, bos_id=1, eos_id=2, options=options)))
        for ours, theirs in product(("batched", "fast"), ("plain", "tutorial")):
            ratio = median(slow / quick for slow, quick in zip(times[theirs], times[ours], strict=True))
            results[f"batch {batch}: {ours}, times as fast as {theirs}"] = ratio
            print(f"beam 5, batch {batch:2}: {ours:7} {ratio:5.1f} x {theirs}", flush=True)
        results |= {f"batch {batch}: seconds, {name}": median(taken) for name, taken in times.items()}
    return results


def as_loaded(decoder: Decoder, precision: str) -> Decoder:
    """A copy of a decoder with the layers that `Captioner.from_pretrained` gives it on a CPU."""
    dtype = arithmetic.choose(precision).decoder
    decoder = copy.deepcopy(decoder)
    return decoder if dtype is None else arithmetic.pack(decoder, dtype)


def one_photo(model: str | None, photos: Path, rounds: int) -> dict[str, float]:
    """From the bytes of a file to its caption and a heatmap for every word, the model loaded before."""
    captioner = Captioner.from_pretrained(model)
    data = _photos(photos)[0].read_bytes()

    def run() -> None:
        image = load_image(data)
        caption = captioner.caption([image], beam_size=5)[0].captions[0]
        for t in range(len(caption.words)):
            word_overlay(image, caption, t)

    run()  # the first run pays for what is set up once
    taken = median(seconds(run) for _ in range(rounds))
    print(f"one photo, beam 5, with heatmaps   {taken:.3f} s", flush=True)
    return {"one photo, beam 5, with heatmaps: seconds": taken}


def folder(model: str | None, photos: Path, rounds: int, threads: int) -> dict[str, float]:
    """A folder of photos through the command line, its start and the loading of the model included."""
    command = [sys.executable, "-m", "captionbot", "caption", "--beam-size", "5", "--format", "jsonl"]
    command += ["--model", model] if model else []
    with tempfile.TemporaryDirectory() as name:
        for i, photo in enumerate(islice(cycle(_photos(photos)), FOLDER_SIZE)):
            shutil.copy(photo, Path(name, f"{i:03}{photo.suffix}"))
        runs = [_process([*command, name], threads) for _ in range(rounds)]
    taken, memory = (median(column) for column in zip(*runs, strict=True))
    speed = FOLDER_SIZE / taken
    print(f"{FOLDER_SIZE} photos by the command line   {speed:.1f} photos/s   {memory:.2f} GiB at most")
    return {"folder: photos a second": speed, "folder: GiB of memory at most": memory}


def _process(command: Sequence[str], threads: int) -> tuple[float, float]:
    """Seconds and GiB that a command takes."""
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise CaptionBotError(f"'{' '.join(command)}' ended with exit code {child.returncode}; run it alone.")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return time.perf_counter() - start, usage.ru_maxrss * unit / 2**30


def _photos(folder: Path) -> list[Path]:
    photos = sorted(path for path in folder.glob("*") if path.suffix.lower() in image_extensions())
    if not photos:
        raise CaptionBotError(f"There are no photos in {folder}; give a folder of photos with --photos.")
    return photos


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
