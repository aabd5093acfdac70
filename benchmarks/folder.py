"""How fast a folder of photos is captioned, by the clock, and of the processor's time.

In one process, in turns: photo after photo, and the pipeline of the command line. Then the command itself,
its start and the loading of the model included. The photos are made from the samples.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks import floor
from benchmarks.pages import photo
from benchmarks.timing import Part, Row, process
from captionbot import Captioner, load_image
from captionbot.bulk.folder import BATCH, caption_each, load_ahead, workers_for
from captionbot.images.load import find_images

BEAMS = 3


def measure(model: str | None, rounds: int, quick: bool) -> list[Part]:
    """Photos a second at beam 3, and what the pipeline gains."""
    count = 12 if quick else 64
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(count):
            (folder / f"{number:04}.jpg").write_bytes(photo(number))
        rows, least = in_process(model, folder, rounds)
        command = [sys.executable, "-m", "captionbot", "caption", name, "--beam-size", str(BEAMS)]
        command += ["--device", "cpu", "--format", "jsonl", *(["--model", model] if model else [])]
        runs = [process(command) for _ in range(rounds)]
    taken, memory = (median(column) for column in zip(*runs, strict=True))
    nan = float("nan")
    rows.append(Row("the command, start included", [count / taken, nan, nan, memory * 1024], ""))
    how = (
        f"{count} JPEGs of 640 x 480 pixels, beam {BEAMS}, by the clock on all threads. The floor is what "
        f"the CNNs alone would take at the speed of a large matrix product in fp32: {least:.0f} ms a photo."
    )
    columns = ["photos a second", "ms of processor's time a photo", "times the floor", "MiB at most"]
    return [Part("A folder", how, columns, rows)]


def in_process(model: str | None, folder: Path, rounds: int) -> tuple[list[Row], float]:
    """Photos a second, and milliseconds of processor's time a photo, of each way to run the captioner; and
    those of the floor."""
    plain, fast = (Captioner.from_pretrained(model, "cpu", precision) for precision in ("float32", "auto"))

    def alone() -> None:
        for path in sorted(folder.iterdir()):
            plain.caption([load_image(path)], beam_size=BEAMS)

    def pipeline(captioner: Captioner) -> None:
        images = load_ahead(find_images([folder]), BATCH["cpu"], captioner.preprocessing)
        for _ in caption_each(captioner, images, BATCH["cpu"], {"beam_size": BEAMS}, workers_for(captioner)):
            pass

    ways: dict[str, Callable[[], None]] = {
        "one by one": alone,
        "pipeline": partial(pipeline, plain),
        "pipeline in auto": partial(pipeline, fast),
    }
    count = len(list(folder.iterdir()))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            started, before = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - started, time.process_time() - before))
    least = _floor(plain)
    rows = []
    for name, runs in times.items():
        wall, used = (median(run[clock] for run in runs) for clock in (0, 1))
        ms = 1000 * used / count
        rows.append(Row(name, [count / wall, ms, ms / least, float("nan")], ""))
    rows.append(Row("floor", [1000 * torch.get_num_threads() / least, least, 1, float("nan")], ""))
    return rows, least


def _floor(captioner: Captioner) -> float:
    """Milliseconds of one thread for a photo's CNNs."""
    pixels = torch.zeros(1, 3, *captioner.preprocessing.size)
    return floor.encoder_flop(captioner.encoder, pixels) / floor.gflops(torch.float32) / 1e6
