"""One photo, from the bytes of a file to its caption, a heatmap for every word, and what the words need, the
captioner loaded.

By one thread, of the processor's time, and by all of torch's threads, by the clock: what a person waits for.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.pages import photo
from benchmarks.timing import Clock, Part, Row, one_thread, seconds
from captionbot import Captioner, load_image
from captionbot.draw.overlays import word_overlay
from captionbot.explain.needs import COPIES, needs
from captionbot.images.load import to_pixel_values
from captionbot.types import Size

BEAMS, STAGES = 5, ("load", "squash", "encode", "search", "heatmaps")
PHOTOS = 40  # beside a busy process: as few as have a 95th percentile


def measure(model: str | None, rounds: int, quick: bool) -> list[Part]:
    """Milliseconds of each stage, and how even they are beside a process that keeps a core busy."""
    data = photo(0)
    captioners = {
        precision: Captioner.from_pretrained(model, "cpu", precision) for precision in ("float32", "auto")
    }
    for captioner in captioners.values():
        stages(captioner, data)  # the first one sets things up, for a number of threads
    with one_thread():
        for captioner in captioners.values():
            stages(captioner, data)
        turns = [[stages(c, data, time.process_time) for c in captioners.values()] for _ in range(rounds)]
    waits = [[stages(c, data) for c in captioners.values()] for _ in range(rounds)]
    gain = median(sum(a) / sum(b) for a, b in turns)
    rows = [
        Row(f"{precision}, {how}", _medians(taken), "ms")
        for how, measured in (("one thread, of processor's time", turns), ("by the clock", waits))
        for precision, taken in zip(captioners, zip(*measured, strict=True), strict=True)
    ]
    with busy():
        beside = [sum(stages(captioners["auto"], data)) for _ in range(4 if quick else PHOTOS)]
    middle, slow = np.percentile(beside, [50, 95]).tolist()
    how = (
        f"The captioner that ships, beam {BEAMS}. `auto` is {gain:.2f} times as fast as fp32. Beside a "
        f"process that keeps a core busy: median {middle:.0f} ms, 95th percentile {slow:.0f} ms."
    )
    return [
        Part("One photo, to its caption and a heatmap for every word", how, ["all of it", *STAGES], rows),
        _needs(captioners, load_image(data), rounds, quick),
    ]


def _needs(captioners: Mapping[str, Captioner], image: Image.Image, rounds: int, quick: bool) -> Part:
    """The maps of what words need, by all of torch's threads."""
    copies = 16 if quick else COPIES
    rows = []
    for precision, captioner in captioners.items():
        (captioned,) = captioner.caption([image])
        caption = captioned.captions[0]
        needs(captioner, image, caption, copies)  # the first one sets things up
        turns = []
        for _ in range(rounds):
            used = time.process_time()
            taken = seconds(partial(needs, captioner, image, caption, copies))
            turns.append((taken, time.process_time() - used))
        values = [median(column) for column in zip(*turns, strict=True)]
        rows.append(Row(f"{precision}, {len(caption.words)} words", values, "s"))
    how = f"Of a photo that nobody asked about before: {copies} hidden copies, and one a word."
    columns = ["by the clock", "of processors' time"]
    return Part("What every word of a caption needs of the photo", how, columns, rows)


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
