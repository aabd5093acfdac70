"""Features to train on: of a frozen encoder, computed once and kept on disk, or made from photos anew.

What is kept is memory-mapped, so that it need not fit into memory. A cache's name is a hash of all
that it depends on (photos, encoder, weights, preprocessing): when one changes, another cache is made.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from captionbot.errors import CaptionBotError
from captionbot.explain.copies import painted
from captionbot.explain.hidden import CELLS, filled_pixels
from captionbot.explain.needs import random_quarters
from captionbot.images.load import Preprocessing, load_image, squash
from captionbot.types import Features
from training.data import ImageStore
from training.data.ready import ReadyFeatures

BATCH = 32
_QUARTERS, _QUARTERS_SEED = 1000, 1  # other ones than those that maps are made of

_ENTRY = re.compile(r"(pixels|features|ready|maps)-[0-9a-f]{16}(\.\d+\.part)?")
_DAY = 24 * 60 * 60


class FeatureSource(Protocol):
    """Features of the images of a split, by their numbers in it."""

    def __call__(
        self,
        encoder: nn.Module,
        images: np.ndarray,
        mirrored: np.ndarray | None = None,
        crops: Tensor | None = None,
    ) -> Features:
        """encoder: as it stands now. mirrored: (B,) bool.

        crops: (B, 7) numbers in 0..1: six of `augment`; where the last is below the share of photos that are
            to lack patches, this one does.
        """


class PixelFeatures:
    """Made from the photos each time, by an encoder that learns; mirrored and cropped where asked for.

    crop, jitter: as `augment` takes them. hide_patches: the share of photos that lack a random quarter.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        preprocessing: Preprocessing,
        device: torch.device,
        crop: float = 1.0,
        jitter: float = 0.0,
        hide_patches: float = 0.0,
    ) -> None:
        self.pixels, self.preprocessing, self.device = pixels, preprocessing, device
        self.crop, self.jitter, self.hide_patches = crop, jitter, hide_patches

    def __call__(
        self,
        encoder: nn.Module,
        images: np.ndarray,
        mirrored: np.ndarray | None = None,
        crops: Tensor | None = None,
    ) -> Features:
        values = normalise(self.pixels[images], self.preprocessing, self.device)
        if mirrored is not None and crops is not None:
            mirrors = torch.from_numpy(mirrored).to(self.device)
            values = augment(values, mirrors, crops[:, :6].to(self.device), self.crop, self.jitter)
            if len(lacking := np.flatnonzero(crops[:, 6] < self.hide_patches)):
                # the number that chose them chooses the quarters too: it is evenly spread below the share
                quarters = (crops[lacking, 6] / self.hide_patches * _QUARTERS).long().numpy()
                values[lacking] = _without_quarters(values[lacking], quarters)
        return encoder(values)


class CachedFeatures:
    """Those of a frozen encoder, from disk: of each photo and, where they were kept, of its mirror image.

    Where they were kept without a quarter of the photo as well, these follow. Places lie one after the other
    without padding, so that images may differ in how many they have.

    hide: the most that is left out of a photo's places, as a share, where it is learnt from.
    hide_patches: the share of photos that are seen without a quarter.
    """

    def __init__(
        self, folder: Path, device: torch.device, hide: float = 0.0, hide_patches: float = 0.0
    ) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self.sides, self.device, self.hide, self.hide_patches = meta["sides"], device, hide, hide_patches
        self.mirrors = meta.get("mirrors", self.sides == 2)
        self.grid = None if meta["grid"] is None else tuple(meta["grid"])
        self.ends = np.load(folder / "ends.npy")  # (n * sides,) where an image's places end
        shape = (int(self.ends[-1]), meta["channels"])
        self.values = np.memmap(folder / "values.bin", dtype=np.float16, mode="r", shape=shape)
        self.boxes = np.load(folder / "boxes.npy")  # (1, P, 4) of all images, or (all places, 4)
        counts = np.diff(self.ends, prepend=0)
        self.places = int(counts[0]) if (counts == counts[0]).all() else None

    def __len__(self) -> int:
        return len(self.ends) // self.sides

    def __call__(
        self,
        encoder: nn.Module,
        images: np.ndarray,
        mirrored: np.ndarray | None = None,
        crops: Tensor | None = None,
    ) -> Features:
        items = np.asarray(images) * self.sides
        if mirrored is not None and self.mirrors:
            items = items + mirrored
        if crops is not None and self.hide_patches:
            items = items + (1 + self.mirrors) * (crops[:, 6] < self.hide_patches).numpy()
        if self.places is None:
            return self._ragged(items)
        values = self.values.reshape(-1, self.places, self.values.shape[1])[items]
        boxes = self.boxes if self.boxes.ndim == 3 else self.boxes.reshape(-1, self.places, 4)[items]
        features = Features(self._tensor(values), self._tensor(boxes), self.grid)
        if self.hide and crops is not None:
            features = dataclasses.replace(features, mask=self._seen(crops))
        return features

    def _seen(self, crops: Tensor) -> Tensor:
        """(B, P) bool, which places are left; the first of the numbers of crops says how many are not."""
        assert self.places is not None
        chances = torch.rand(len(crops), self.places) >= self.hide * crops[:, :1]
        chances[:, 0] |= ~chances.any(1)  # one at least
        return chances.to(self.device)

    def _ragged(self, items: np.ndarray) -> Features:
        starts = np.where(items > 0, self.ends[items - 1], 0)
        counts = self.ends[items] - starts
        values = np.zeros((len(items), counts.max(), self.values.shape[1]), dtype=np.float16)
        boxes = np.zeros((*values.shape[:2], 4), dtype=np.float32)
        for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
            values[row, :count] = self.values[start : start + count]
            boxes[row, :count] = self.boxes[start : start + count]
        mask = np.arange(counts.max()) < counts[:, None]
        return Features(
            self._tensor(values), self._tensor(boxes), None, torch.from_numpy(mask).to(self.device)
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device).float()


class BlankFeatures:
    """One place of zeros for every image: what a decoder is given that learns from text alone.

    Whatever it makes of zeros (a layer norm's bias, the biases of its projections) is the same for every
    sentence, so it learns the language and nothing of pictures.
    """

    def __init__(self, channels: int, device: torch.device) -> None:
        self.channels, self.device = channels, device

    def __call__(
        self,
        encoder: nn.Module,
        images: np.ndarray,
        mirrored: np.ndarray | None = None,
        crops: Tensor | None = None,
    ) -> Features:
        values = torch.zeros(len(images), 1, self.channels, device=self.device)
        return Features(values, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]], device=self.device), (1, 1))


def cached_pixels(
    store: ImageStore, names: Sequence[str], preprocessing: Preprocessing, folder: Path, skip: bool = False
) -> tuple[np.ndarray, dict[str, str]]:
    """(n, height, width, 3) uint8, photos at the encoder's size, and what is wrong with those left out.

    skip: leave out the photos that cannot be read, n fewer than names; otherwise the first is an error.
    """
    height, width = preprocessing.size
    # sizes stand for contents: to hash every photo at every start would take as long as the cache saves
    photos: list[tuple[str, int]] = []
    unread: dict[str, str] = {}
    for name in names:
        try:
            photos.append((name, len(store[name])))
        except CaptionBotError as error:
            if not skip:
                raise
            unread[name] = str(error)
    key = ["pixels", height, width, preprocessing.interpolation, photos]

    def fill(partial: Path) -> None:
        bad = {}
        with (partial / "pixels.bin").open("wb") as file:
            for name, _ in tqdm(photos, desc="photos", unit="photo", mininterval=1):
                try:
                    file.write(squash(load_image(store[name]), preprocessing).tobytes())
                except CaptionBotError as error:
                    if not skip:
                        raise _bad_photo(name, str(error)) from None
                    bad[name] = str(error)
        (partial / "bad.json").write_text(json.dumps(bad))

    cache = cached(key, len(photos) * height * width * 3, folder, fill)
    bad = json.loads((cache / "bad.json").read_text())
    if bad and not skip:
        raise _bad_photo(*next(iter(bad.items())))
    bad |= unread
    if not (good := len(names) - len(bad)):
        raise CaptionBotError(f"None of the {len(names)} photos can be read; check --data and --images.")
    shape = (good, height, width, 3)
    return np.memmap(cache / "pixels.bin", dtype=np.uint8, mode="r", shape=shape), bad


def cached_features(
    encoder: nn.Module,
    preprocessing: Preprocessing,
    pixels: np.ndarray,
    flips: bool,
    folder: Path,
    device: torch.device,
    amp: str | bool = False,
    hide: float = 0.0,
    hide_patches: float = 0.0,
) -> CachedFeatures:
    """The features of each photo and, with flips, of its mirror image, values as fp16.

    pixels: as of `cached_pixels`. hide, hide_patches: as of `CachedFeatures`; with the latter, each photo and
    mirror image is seen a second time without a random quarter of it, always the same.
    """
    weights = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        weights.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    sides = (2 if flips else 1) * (2 if hide_patches else 1)
    key = [
        "features",
        repr(preprocessing),
        str(getattr(pixels, "filename", "")),
        len(pixels),
        sides,
        str(_precision(device, amp)),
        repr(getattr(encoder, "config", "")),
        weights.hexdigest(),
        *["without quarters"] * bool(hide_patches),
    ]
    encoder = encoder.eval().to(device)
    with torch.inference_mode():  # the same photo twice: boxes that all images share come once even so
        probe = encoder(normalise(pixels[[0, 0]], preprocessing, device))
    shared = probe.mask is None and len(probe.boxes) == 1
    _, places, channels = probe.values.shape

    def fill(partial: Path) -> None:
        counts, boxes = [], []
        with torch.inference_mode(), autocast(device, amp), (partial / "values.bin").open("wb") as file:
            for i in tqdm(range(0, len(pixels), BATCH), desc="features", unit="batch", mininterval=1):
                batch = normalise(pixels[i : i + BATCH], preprocessing, device)
                seen = [batch, batch.flip(-1)] if flips else [batch]
                if hide_patches:
                    quarters = np.arange(i, i + len(batch))
                    seen += [_without_quarters(photos, quarters) for photos in seen]
                found = [_arrays(encoder(photos)) for photos in seen]
                for image in range(len(batch)):
                    for values, box, mask in found:
                        kept = slice(None) if mask is None else mask[image]
                        file.write(values[image][kept].tobytes())
                        counts.append(len(values[image][kept]))
                        if not shared:
                            boxes.append(box[image][kept])
        np.save(partial / "ends.npy", np.cumsum(counts))
        np.save(partial / "boxes.npy", probe.boxes.cpu().numpy() if shared else np.concatenate(boxes))
        meta = {"sides": sides, "mirrors": flips, "channels": channels, "grid": probe.grid}
        (partial / "meta.json").write_text(json.dumps(meta))

    needed = len(pixels) * sides * places * channels * 2
    return CachedFeatures(cached(key, needed, folder, fill), device, hide, hide_patches)


def ready_features(
    features: ReadyFeatures,
    images: Sequence[tuple[str, int | str | None]],
    folder: Path,
    device: torch.device,
    hide: float = 0.0,
) -> CachedFeatures:
    """Ready-made features of images, given by names and ids, from a cache in their order, values as fp16.

    Raises CaptionBotError where an image has none, or has another number of channels than the others.
    """
    first = features.load(*images[0])
    channels = first.values.shape[1]
    state = features.path.stat()
    key = ["ready", str(features.path.resolve()), state.st_size, state.st_mtime_ns, list(images)]

    def fill(partial: Path) -> None:
        counts, boxes, grids = [], [], set()
        with (partial / "values.bin").open("wb") as file:
            for name, image_id in tqdm(images, desc="features", unit="image", mininterval=1):
                found = features.load(name, image_id)
                if found.values.shape[1] != channels:
                    raise CaptionBotError(
                        f"The features of '{name}' have {found.values.shape[1]:,} numbers a place, those "
                        f"before have {channels:,}; give features of one extractor."
                    )
                file.write(found.values.astype(np.float16).tobytes())
                counts.append(len(found.values))
                boxes.append(found.boxes)
                grids.add(found.grid)
        np.save(partial / "ends.npy", np.cumsum(counts))
        np.save(partial / "boxes.npy", np.concatenate(boxes))
        grid = grids.pop() if len(grids) == 1 else None
        (partial / "meta.json").write_text(json.dumps({"sides": 1, "channels": channels, "grid": grid}))

    return CachedFeatures(cached(key, len(images) * first.values.size * 2, folder, fill), device, hide)


def computes_bf16(device: torch.device) -> bool:
    """Whether the device multiplies in bf16 itself; elsewhere bf16 is emulated, slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # torch older than 2.12 does not tell
    return device.type == "cpu" and bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def autocast(device: torch.device, amp: str | bool, cache: bool = True) -> torch.autocast:
    """Mixed precision, where it is asked for and the device computes it.

    amp: "bf16" (or True), "fp16", which only GPUs compute, or "off" (or False).
    """
    dtype = _precision(device, amp)
    return torch.autocast(
        device.type, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=cache
    )


def _precision(device: torch.device, amp: str | bool) -> torch.dtype | None:
    if amp == "fp16":
        return torch.float16 if device.type == "cuda" else None
    return torch.bfloat16 if amp in (True, "bf16") and computes_bf16(device) else None


def normalise(pixels: np.ndarray, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) normalised pixel values, channels last in memory."""
    values = torch.from_numpy(np.array(pixels)).to(device).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (
        torch.tensor(v, device=device).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std)
    )
    return (values - mean) / std


def augment(
    pixel_values: Tensor, mirrored: Tensor, crops: Tensor, crop: float, jitter: float = 0.0
) -> Tensor:
    """Mirror some photos, crop each at a random place, and change its colours.

    mirrored: (B,) bool.
    crops: (B, 6) numbers in 0..1: how much to crop, and where across and down; how bright, how rich in
        contrast, and how colourful.
    crop: the least share of its sides that is left of a photo.
    jitter: the most that contrast and colour change by, as a share, and brightness, in normalised units.
    """
    scale = crop + (1 - crop) * crops[:, 0]
    shift = (crops[:, 1:3] * 2 - 1) * (1 - scale).unsqueeze(1)
    theta = torch.zeros(len(crops), 2, 3, device=crops.device)
    theta[:, 0, 0] = torch.where(mirrored, -scale, scale)
    theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(pixel_values.shape), align_corners=False)
    values = F.grid_sample(
        pixel_values, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    if not jitter:
        return values
    brighter, contrast, colour = ((crops[:, 3:] * 2 - 1) * jitter).T.reshape(3, -1, 1, 1, 1)
    grey = values.mean(1, keepdim=True)
    values = grey + (1 + colour) * (values - grey)
    middle = values.mean((1, 2, 3), keepdim=True)
    return middle + (1 + contrast) * (values - middle) + brighter


@lru_cache(maxsize=1)
def _quarters() -> np.ndarray:
    return random_quarters(_QUARTERS, _QUARTERS_SEED)


def _without_quarters(pixel_values: Tensor, numbers: np.ndarray) -> Tensor:
    """Photos (B, 3, H, W) with their mean colours over random quarters of them, given by numbers (B,)."""
    hidden = torch.from_numpy(_quarters()[numbers % _QUARTERS])
    filling = filled_pixels(pixel_values, "mean")
    return painted(pixel_values, filling, hidden.to(pixel_values.device), CELLS)


def _arrays(features: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    mask = None if features.mask is None else features.mask.cpu().numpy()
    boxes = features.boxes.expand(len(features), -1, -1).float().cpu().numpy()
    return features.values.half().cpu().numpy(), boxes, mask


def _bad_photo(name: str, reason: str) -> CaptionBotError:
    return CaptionBotError(
        f"{name}: {reason} Take it out of the data set, or mend it; training.train leaves such photos "
        "out with --on-bad-image skip."
    )


def cached(key: Any, needed: int, folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder of a key, filled once; a fill that breaks off leaves nothing that looks whole.

    needed: bytes that it will take, more or less.
    """
    path = folder / f"{key[0]}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}"
    if path.exists():
        os.utime(path)  # when it was last used, for `tidy`
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{path.name}.{os.getpid()}.part"
    full = CaptionBotError(
        f"The cache in {folder} needs {needed / 2**30:.1f} GiB and the disk has less; "
        "free some space, or choose another folder with --cache."
    )
    if shutil.disk_usage(folder).free < needed:
        raise full
    try:
        partial.mkdir()
        fill(partial)
        partial.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise full from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def tidy(folder: Path, gib: float, since: float) -> list[str]:
    """Remove what no run needs any more from a cache; the names of what is gone.

    That is what is left of fills that were killed more than a day ago, and, once there is more than so many
    GiB, what has not been used for longest; nothing that was used at the time `since`, in seconds, or later.
    What another run has open stays open for it.
    """
    entries = {path: path.stat().st_mtime for path in folder.glob("*-*") if _ENTRY.fullmatch(path.name)}
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in entries}
    total, gone = sum(sizes.values()), []
    for path in sorted(entries, key=entries.__getitem__):
        left_over = path.suffix == ".part" and entries[path] < time.time() - _DAY
        if left_over or (total > gib * 2**30 and entries[path] < since and path.suffix != ".part"):
            shutil.rmtree(path, ignore_errors=True)
            total -= sizes[path]
            gone.append(path.name)
    return gone
