"""How fast photos are captioned that lie in memory at the encoder's size: what a GPU is asked for.

In turns: the decoder's steps as they are, and compiled. How much of the time the GPU is busy is the time of
its kernels, by torch's profiler, against that of a run without a profiler.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from statistics import median

import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from benchmarks.pages import photo
from benchmarks.timing import Part, Row, in_turns
from captionbot import Captioner, load_image
from captionbot.bulk.folder import BATCH, caption_each, workers_for
from captionbot.images.load import squash

BEAMS, DIFFERENT = 5, 64


def measure(model: str | None, rounds: int, quick: bool) -> list[Part]:
    """Photos a second at beam 5 on the fastest device, compiled too where that is a GPU."""
    captioners = {"as it is": Captioner.from_pretrained(model, compiled=False)}
    plain = captioners["as it is"]
    kind = plain.device.type
    if kind == "cuda":
        captioners["compiled"] = Captioner.from_pretrained(model, compiled=True)
    batch = BATCH[kind]
    count = batch * (1 if quick else 16 if kind == "cuda" else 4)
    different = [
        Image.fromarray(squash(load_image(photo(n)), plain.preprocessing))
        for n in range(min(count, DIFFERENT))
    ]
    photos = [("photo", image) for image in islice(cycle(different), count)]

    def run(captioner: Captioner) -> None:
        for _ in caption_each(captioner, photos, batch, {"beam_size": BEAMS}, workers_for(captioner)):
            pass

    runs: dict[str, Callable[[], None]] = {name: partial(run, each) for name, each in captioners.items()}
    for once in runs.values():  # what is compiled, is compiled now
        once()
    times = {name: median(taken) for name, taken in in_turns(runs, rounds).items()}
    rows = [Row("photos a second", [count / taken for taken in times.values()], "")]
    if kind == "cuda":
        shares = [100 * kernel_seconds(once) / times[name] for name, once in runs.items()]
        rows.append(Row("share of the time that the GPU is busy", shares, "%"))
    how = f"{count} photos, beam {BEAMS}, batches of {batch}, {_name(plain.device)}."
    return [Part("Photos in memory", how, list(runs), rows)]


def kernel_seconds(run: Callable[[], object]) -> float:
    """Seconds that a GPU works in a run; its kernels come one after the other."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        run()
    return sum(event.self_device_time_total for event in found.key_averages()) / 1e6


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
