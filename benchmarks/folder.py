"""How fast a folder of photos is captioned: `python -m benchmarks.folder`.

In one process, in turns: photo after photo, and the pipeline with 1 and 2 loading threads and 1 and 2 threads
that caption. Then the command, its start and the loading of the model included. The photos are made from the
samples that gradio carries. Wall time needs an idle machine; the processor's time a photo does not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.caption import _process
from benchmarks.pages import photo
from captionbot import Captioner, load_image
from captionbot.batch import caption_each, load_ahead
from captionbot.images import find_images

BEAMS, BATCH = 3, 16


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a number; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folder", description=__doc__)
    parser.add_argument("--model", metavar="NAME_OR_DIR", help="the captioner (default: the one that ships)")
    parser.add_argument("--photos", type=int, default=200, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    for name, value in measure(args.model, args.photos, args.rounds).items():
        print(f"{name:60} {value:.2f}")
    return 0


def measure(model: str | None, count: int, rounds: int) -> dict[str, float]:
    """Photos a second at beam 3, and what the pipeline gains."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            Path(name, f"{number:04}.jpg").write_bytes(photo(number))
        numbers = in_process(Captioner.from_pretrained(model, device="cpu"), Path(name), rounds)
        command = [sys.executable, "-m", "captionbot", "caption", name, "--beam-size", str(BEAMS)]
        command += ["--device", "cpu", "--format", "jsonl", *(["--model", model] if model else [])]
        runs = [_process(command, torch.get_num_threads()) for _ in range(rounds)]
    taken, memory = (median(column) for column in zip(*runs, strict=True))
    return {
        **numbers,
        "folder, command with its start: photos a second": count / taken,
        "folder, command: GiB of memory at most": memory,
    }


def in_process(captioner: Captioner, folder: Path, rounds: int) -> dict[str, float]:
    """Photos a second and milliseconds of processor time a photo, of each way to run the captioner."""

    def alone() -> None:
        for path in sorted(folder.iterdir()):
            captioner.caption([load_image(path)], beam_size=BEAMS)

    def pipeline(loaders: int, workers: int) -> None:
        images = load_ahead(find_images([folder]), BATCH, captioner.preprocessing, loaders)
        for _ in caption_each(captioner, images, BATCH, {"beam_size": BEAMS}, workers):
            pass

    ways: dict[str, Callable[[], None]] = {"one photo at a time": alone}
    for loaders in (1, 2):
        for workers in (1, 2):
            ways[f"{loaders} loading, {workers} captioning"] = partial(pipeline, loaders, workers)
    count = len(list(folder.iterdir()))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            wall, used = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - wall, time.process_time() - used))
    numbers: dict[str, float] = {}
    for name, taken in times.items():
        wall, used = (median(column) for column in zip(*taken, strict=True))
        numbers[f"folder, {name}: photos a second"] = count / wall
        numbers[f"folder, {name}: ms of processor time a photo"] = 1000 * used / count
    slow, fast = times["one photo at a time"], times["2 loading, 2 captioning"]
    ratios = (a[0] / b[0] for a, b in zip(slow, fast, strict=True))
    return {"folder: pipeline, times as fast as one photo at a time": median(ratios), **numbers}


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(main())
