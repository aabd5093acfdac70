"""What a detector learns from: photos, or what a captioner's frozen CNN sees in them, computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from captionbot.encoders.regions import RegionEncoder
from captionbot.images.load import Preprocessing, squash
from training.data import ImageStore
from training.run.features import BATCH, cached, cached_pixels, normalise


class Inputs(Protocol):
    """What a detector takes of photos."""

    def __call__(self, names: Sequence[str], mirrored: np.ndarray) -> Tensor | list[Tensor]:
        """As `Detector.forward` takes it. mirrored: (B,) bool."""


class Photos:
    """Photos at the size of a detector that has a CNN of its own."""

    def __init__(
        self,
        store: ImageStore,
        names: Sequence[str],
        size: tuple[int, int],
        cache: Path,
        device: torch.device,
    ) -> None:
        preprocessing = Preprocessing(size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.pixels, self.device = cached_pixels(store, names, preprocessing, cache)[0], device
        self.rows = {name: row for row, name in enumerate(names)}

    def __call__(self, names: Sequence[str], mirrored: np.ndarray) -> Tensor:
        """(B, 3, H, W) in 0..1."""
        pixels = torch.from_numpy(self.pixels[[self.rows[name] for name in names]]).to(self.device)
        pixels = pixels.permute(0, 3, 1, 2).float() / 255
        mirrors = torch.from_numpy(mirrored)
        pixels[mirrors] = pixels[mirrors].flip(-1)
        return pixels


class Maps:
    """What a detector sees that looks through a captioner's CNN; in mirror images too, where asked for."""

    def __init__(
        self,
        encoder: RegionEncoder,
        preprocessing: Preprocessing,
        store: ImageStore,
        names: Sequence[str],
        mirror: bool,
        cache: Path,
        device: torch.device,
    ) -> None:
        self.sides, self.device = 2 if mirror else 1, device
        self.levels = cached_maps(encoder, preprocessing, store, names, self.sides, cache, device)
        self.rows = {name: row for row, name in enumerate(names)}

    def __call__(self, names: Sequence[str], mirrored: np.ndarray) -> list[Tensor]:
        """Maps (B, C, h, w) of each level."""
        items = np.array([self.rows[name] for name in names]) * self.sides + mirrored
        maps = [torch.from_numpy(level[items]).to(self.device).float() for level in self.levels]
        return [level.contiguous(memory_format=torch.channels_last) for level in maps]


def cached_maps(
    encoder: RegionEncoder,
    preprocessing: Preprocessing,
    store: ImageStore,
    names: Sequence[str],
    sides: int,
    folder: Path,
    device: torch.device,
) -> list[np.ndarray]:
    """The maps of each level, (n * sides, C, h, w) fp16, each photo's before those of its mirror image."""
    weights = hashlib.sha256()
    for name, tensor in encoder.grid.state_dict().items():
        weights.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    photos = [(name, len(store[name])) for name in names]
    layers, size = encoder.config.detector_layers, encoder.detector.size
    key = ["maps", repr(preprocessing), size, layers, sides, weights.hexdigest(), photos]
    encoder = encoder.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def seen(names: Sequence[str]) -> list[np.ndarray]:
        photos = np.stack([squash(store.load(name), preprocessing) for name in names])
        values = normalise(photos, preprocessing, device)
        both = torch.stack([values, values.flip(-1)][:sides], 1).flatten(0, 1)
        return [level.half().cpu().numpy() for level in encoder.maps(both)]

    with torch.inference_mode():
        shapes = [level.shape[1:] for level in seen(names[:1])]

    def fill(partial: Path) -> None:
        shape = [(len(names) * sides, *shape) for shape in shapes]
        levels = [
            np.lib.format.open_memmap(partial / f"{i}.npy", "w+", np.float16, s) for i, s in enumerate(shape)
        ]
        with torch.inference_mode():
            for i in tqdm(range(0, len(names), BATCH), desc="maps", unit="batch", mininterval=1):
                for level, values in zip(levels, seen(names[i : i + BATCH]), strict=True):
                    level[i * sides : i * sides + len(values)] = values

    needed = len(names) * sides * sum(int(np.prod(shape)) for shape in shapes) * 2
    path = cached(key, needed, folder, fill)
    return [np.load(path / f"{i}.npy", mmap_mode="r") for i in range(len(shapes))]
