"""What is computed once and kept on disk: decoded photos, and the features of a frozen encoder.

Memory-mapped, so that neither has to fit into memory. A cache's name is a hash of all that it
depends on (photos, encoder, weights, preprocessing): when one changes, another cache is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from captionbot.encoders import GridEncoder
from captionbot.errors import CaptionBotError
from captionbot.images import Preprocessing, load_image
from training.data import ImageStore

BATCH = 32


def cached_pixels(store: ImageStore, names: Sequence[str], size: int, folder: Path) -> np.ndarray:
    """(n, size, size, 3) uint8, photos squashed to a square."""
    # sizes stand for contents: to hash every photo at every start would take as long as the cache saves
    key = ["pixels", size, [(name, len(store[name])) for name in names]]

    def fill(out: np.ndarray) -> None:
        for i, name in enumerate(tqdm(names, desc="photos", unit="photo")):
            try:
                image = load_image(store[name])
            except CaptionBotError as error:
                raise CaptionBotError(f"{name}: {error} Take it out of the data set, or mend it.") from None
            out[i] = np.asarray(image.resize((size, size), 3, reducing_gap=2.0))

    return _cached(key, (len(names), size, size, 3), np.uint8, folder, fill)


def cached_features(
    encoder: GridEncoder,
    preprocessing: Preprocessing,
    pixels: np.ndarray,
    flips: bool,
    folder: Path,
    device: torch.device,
) -> np.ndarray:
    """(n, 1 or 2, P, C) fp16: the features of each photo and, with flips, of its mirror image."""
    weights = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        weights.update(name.encode() + tensor.cpu().numpy().tobytes())
    key = [
        "features",
        repr(preprocessing),
        str(getattr(pixels, "filename", "")),
        len(pixels),
        flips,
        weights.hexdigest(),
    ]
    encoder = encoder.eval().to(device)
    with torch.inference_mode():
        _, places, channels = encoder(normalise(pixels[:1], preprocessing, device)).values.shape

    def fill(out: np.ndarray) -> None:
        with torch.inference_mode():
            for i in tqdm(range(0, len(pixels), BATCH), desc="features", unit="batch"):
                batch = normalise(pixels[i : i + BATCH], preprocessing, device)
                for side in range(out.shape[1]):
                    values = encoder(batch.flip(-1) if side else batch).values
                    out[i : i + BATCH, side] = values.half().cpu().numpy()

    return _cached(key, (len(pixels), 2 if flips else 1, places, channels), np.float16, folder, fill)


def normalise(pixels: np.ndarray, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) normalised pixel values."""
    values = torch.from_numpy(np.array(pixels)).to(device).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (
        torch.tensor(v, device=device).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std)
    )
    return (values - mean) / std


def _cached(
    key: Any, shape: tuple[int, ...], dtype: Any, folder: Path, fill: Callable[[np.ndarray], None]
) -> np.ndarray:
    """The array by its key, filled once; a fill that breaks off leaves nothing that looks whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key[0]}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if shutil.disk_usage(folder).free < needed:
            raise CaptionBotError(
                f"The cache in {folder} needs {needed / 2**30:.1f} GiB and the disk has less; "
                "free some space, or choose another folder with --cache."
            )
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            out = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
            fill(out)
            out.flush()
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")
