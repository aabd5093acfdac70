"""One photo, from the bytes of a file to its caption and a heatmap for every word, the captioner loaded.

By one thread, of the processor's time, and by all of torch's threads, by the clock: what a person waits for.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.pages import photo
from benchmarks.timing import Clock, Row, one_thread, seconds
from captionbot import Captioner, load_image
from captionbot.draw.overlays import word_overlay
from captionbot.images.load import to_pixel_values
from captionbot.types import Size

BEAMS, STAGES = 5, ("load", "squash", "encode", "search", "heatmaps")
PHOTOS = 100  # beside a busy process: as few as have a 99th percentile


def measure(model: str | None, rounds: int, quick: bool) -> list[Row]:
    """Milliseconds of each stage, and how even they are beside a process that keeps a core busy."""
    data = photo(0)
    captioners = {
        precision: Captioner.from_pretrained(model, "cpu", precision) for precision in ("float32", "auto")
    }
    for captioner in captioners.values():
        stages(captioner, data)  # the first one sets things up
    with one_thread():
        turns = [[stages(c, data, time.process_time) for c in captioners.values()] for _ in range(rounds)]
    waits = [[stages(c, data) for c in captioners.values()] for _ in range(rounds)]
    what, parts = f"one photo, beam {BEAMS}", f"all of it, of that {', '.join(STAGES)}"
    rows = [
        Row(f"{what}: auto against float32", [median(sum(a) / sum(b) for a, b in turns)], "times as fast")
    ]
    for precision, taken in zip(captioners, zip(*turns, strict=True), strict=True):
        rows.append(
            Row(f"{what}, {precision}, one thread: {parts}", _medians(taken), "ms of processor's time")
        )
    for precision, taken in zip(captioners, zip(*waits, strict=True), strict=True):
        rows.append(Row(f"{what}, {precision}: {parts}", _medians(taken), "ms"))
    with busy():
        beside = [sum(stages(captioners["auto"], data)) for _ in range(4 if quick else PHOTOS)]
    middle, slow = np.percentile(beside, [50, 99]).tolist()
    what = f"{what}, auto, beside a process that keeps a core busy"
    rows.append(Row(f"{what}: p99 against p50", [slow / middle], "times as long"))
    rows.append(Row(f"{what}: p50, p99", [middle, slow], "ms"))
    return rows


def _medians(taken: Sequence[Sequence[float]]) -> list[float]:
    """Of the whole, then of each stage."""
    return [median(map(sum, taken)), *(median(stage) for stage in zip(*taken, strict=True))]


def stages(captioner: Captioner, data: bytes, clock: Clock = time.perf_counter) -> list[float]:
    """Milliseconds of each of `STAGES`."""
    taken: list[float] = []

    def timed(run: Callable[[], Any]) -> Any:
        found: list[Any] = []
        taken.append(1000 * seconds(lambda: found.append(run()), clock))
        return found[0]

    image = timed(partial(load_image, data))
    pixels = timed(partial(to_pixel_values, [image], captioner.preprocessing))
    features = timed(partial(captioner.encode_pixels, pixels))
    options = captioner.options(beam_size=BEAMS)
    (found,) = timed(partial(captioner.caption_features, features, [Size(*image.size)], options))
    best = found.captions[0]
    timed(lambda: [word_overlay(image, best, t) for t in range(len(best.words))])
    return taken


@contextmanager
def busy() -> Iterator[None]:
    """Another process that takes all of a core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
