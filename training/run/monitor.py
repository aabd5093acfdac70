"""What a person sees of a run as it goes: a line of progress, and tensorboard."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from captionbot.captioner import Captioner
from captionbot.draw.sheets import contact_sheet
from captionbot.errors import displayable
from training.run.distributed import World


class Monitor:
    """Scalars and pictures in RUN/tensorboard and a line on stderr, by the main process alone."""

    def __init__(self, folder: Path, world: World) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.world = world
        self.writer = SummaryWriter(str(folder / "tensorboard")) if world.main else None

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Ctrl-C may strike while a lock of the writer is held, and to close it would then wait for ever.
        if self.writer and kind is not KeyboardInterrupt:
            self.writer.close()

    def scalars(self, figures: dict[str, float], at: int) -> None:
        if self.writer:
            for name, value in figures.items():
                self.writer.add_scalar(name, value, at)

    def samples(
        self, captioner: Captioner, names: Sequence[str], photos: Sequence[Image.Image], at: int
    ) -> None:
        """Each photo's caption, and a heatmap for each of its words."""
        if not self.writer:
            return
        for name, photo, captioned in zip(names, photos, captioner.caption(photos), strict=True):
            caption = captioned.captions[0]
            name = displayable(name)  # tensorboard's files hold UTF-8 alone
            self.writer.add_text(name, caption.text, at)
            self.writer.add_image(name, figure_pixels(contact_sheet(photo, caption)), at, dataformats="HWC")

    def progress(self, steps: Iterable[Any], title: str, total: int, done: int, later: int) -> Progress:
        """later: steps of the epochs that follow."""
        return Progress(steps, title, total, done, later, self.world)


class Progress:
    """The steps of an epoch, with a line that says how far it is and how fast it goes."""

    def __init__(
        self, steps: Iterable[Any], title: str, total: int, done: int, later: int, world: World
    ) -> None:
        self.later, self.device, self.seen, self.started = later, world.device, 0, time.monotonic()
        self.bar = tqdm(steps, title, total, initial=done, unit="step", mininterval=5, disable=not world.main)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.bar)

    def show(self, loss: float, images: int) -> None:
        """loss: mean of the epoch so far; images: of the last step."""
        self.seen += images
        if self.bar.disable or time.monotonic() - self.bar.last_print_t < self.bar.mininterval:
            return
        seconds = time.monotonic() - self.started
        left = self.later * seconds / max(self.bar.n - self.bar.initial, 1)
        self.bar.set_postfix_str(
            f"loss={loss:.3f}, {self.seen / seconds:.0f} images/s, {memory(self.device):.1f} GiB"
            + (f", then {tqdm.format_interval(left)}" if self.later else ""),
            refresh=False,
        )


def memory(device: torch.device) -> float:
    """GiB that the run has taken at most: of the GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def figure_pixels(figure: Any) -> np.ndarray:
    """(height, width, 3) uint8, a matplotlib Figure drawn without pyplot, small enough to keep many."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(60)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
