"""Ready-made features of images, in the forms that extractors leave them in.

.tsv     of bottom-up attention (arXiv 1707.07998), or with the columns of LXMERT: regions and their boxes
.npz     an array for each image, by its name or id
.h5      a dataset, or a group of features and boxes, for each image; or KEY_features and KEY_boxes
a folder with one .npz or .npy for each image, or with the files of CS231n's coco_captioning

An array is (C,) of the whole image, (P, C) of P places, (1, P, C), or (rows, columns, C) of a grid.
"""

from __future__ import annotations

import base64
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from captionbot.encoders.ready import MOST_PLACES
from captionbot.errors import CaptionBotError, shortened
from captionbot.types import Features
from training.data.cs231n import CAPTIONS, image_names
from training.data.files import walk

COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")  # of bottom-up attention
LXMERT = (
    "img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes", "boxes",
    "features",
)  # fmt: skip

_VALUES = ("feat", "features", "feature", "x", "values", "arr_0")
_BOXES = ("bbox", "boxes", "bboxes")
_NUMBER = re.compile(r"(?:^|_)(\d+)$")


@dataclass(frozen=True)
class Ready:
    """The features of one image.

    values: (P, C) float32.
    boxes: (P, 4) xyxy as fractions of the image; the whole image where none are known.
    grid: (rows, columns) of places in reading order, or None.
    """

    values: np.ndarray
    boxes: np.ndarray
    grid: tuple[int, int] | None = None


class ReadyFeatures(ABC):
    """Features by the image that they are of, read one by one.

    path: where they are. keys: what images are called there, by how names and ids are compared.
    """

    def __init__(self, path: Path, keys: Iterable[str]) -> None:
        self.path = path
        self.keys = {_bare(key): key for key in keys}
        if not self.keys:
            raise CaptionBotError(
                f"{shortened(path)} holds features of no image; give another file or folder."
            )

    @abstractmethod
    def read(self, key: str) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]:
        """What lies under a key: values, boxes in pixels or fractions, and the image's width and height."""

    def find(self, name: str, image_id: int | str | None = None) -> str:
        """The key of an image's features: its id, its file's name, that without ending, or its number.

        Raises CaptionBotError where there are none.
        """
        stem = PurePosixPath(name).stem
        calls = [name, PurePosixPath(name).name, stem]
        if image_id is not None:
            calls.insert(0, str(image_id))
        if number := _NUMBER.search(stem):  # COCO_val2014_000000000042
            calls.append(number[1].lstrip("0") or "0")
        for call in calls:
            if (key := self.keys.get(_bare(call))) is not None:
                return key
        raise CaptionBotError(
            f"{shortened(self.path)} has no features of '{shortened(name)}' among those of "
            f"{len(self.keys):,} images, such as '{shortened(next(iter(self.keys.values())))}'; give "
            "those of the images of --data."
        )

    def load(self, name: str, image_id: int | str | None = None) -> Ready:
        """The features of an image; CaptionBotError for what is missing or damaged."""
        return self.load_key(self.find(name, image_id))

    def load_key(self, key: str) -> Ready:
        """The same, by what the image is called here."""
        try:
            return _ready(*self.read(key))
        except CaptionBotError:
            raise
        except Exception as error:  # a damaged file raises errors of every kind
            raise CaptionBotError(
                f"The features of '{shortened(key)}' in {shortened(self.path)} cannot be read "
                f"({shortened(str(error) or type(error).__name__)}); make them again."
            ) from None


def open_ready(path: str | Path) -> ReadyFeatures:
    """The features of a file or folder, whatever its form. Raises CaptionBotError for what holds none."""
    path = Path(path)
    try:
        state = path.stat()
    except OSError:
        raise CaptionBotError(
            f"There are no features at {shortened(path)}; give a .tsv, .npz or .h5 file, or a folder of them."
        ) from None
    return _opened(path.absolute(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)  # a run asks for the same file several times, and a look through it takes a while
def _opened(path: Path, size: int, changed: int) -> ReadyFeatures:
    """size, changed: of the file as it now is, so that another in its place is looked through again."""
    try:
        if path.is_dir():
            return _Cs231n(path) if (path / CAPTIONS).is_file() else _Folder(path)
        if path.suffix.lower() == ".tsv":
            return _Tsv(path)
        if path.suffix.lower() == ".npz":
            return _Archive(path)
        if path.suffix.lower() in (".h5", ".hdf5"):
            return _Hdf5(path)
    except CaptionBotError:
        raise
    except Exception as error:
        raise CaptionBotError(
            f"{shortened(path)} holds no features that can be read ({shortened(str(error))}); make it again."
        ) from None
    raise CaptionBotError(
        f"{shortened(path)} is no file of features; give .tsv, .npz or .h5, or a folder of .npz or .npy."
    )


class _Tsv(ReadyFeatures):
    """A line an image, its numbers as base64 of float32: only where lines begin is kept in memory."""

    def __init__(self, path: Path) -> None:
        self.lines: dict[str, int] = {}
        self.columns: tuple[str, ...] = COLUMNS
        with path.open("rb") as file:
            start = 0
            for line in file:
                head = line[:500].split(b"\t")
                if not start and line.count(b"\t") == len(LXMERT) - 1:
                    self.columns = LXMERT
                if line.count(b"\t") != len(self.columns) - 1:
                    raise CaptionBotError(
                        f"Line {len(self.lines) + 1} of {shortened(path)} has not the {len(self.columns)} "
                        f"columns of bottom-up features ({', '.join(self.columns)}); make the file again."
                    )
                if head[0] != self.columns[0].encode():  # a line of the columns' names, which some have
                    self.lines[head[0].decode()] = start
                start += len(line)
        super().__init__(path, self.lines)

    def read(self, key: str) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]:
        with self.path.open("rb") as file:
            file.seek(self.lines[key])
            cells = dict(zip(self.columns, file.readline().rstrip(b"\r\n").split(b"\t"), strict=True))
        count = int(cells["num_boxes"])
        values, boxes = (
            np.frombuffer(base64.b64decode(cells[name], validate=True), "<f4").reshape(count, -1)
            for name in ("features", "boxes")
        )
        width, height = (next(float(cells[n]) for n in cells if n.endswith(end)) for end in ("_w", "_h"))
        return values, boxes, (width, height)


class _Archive(ReadyFeatures):
    """One .npz with an array for each image."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
        super().__init__(path, [name for name in names if not name.endswith(("_boxes", "_bbox"))])
        self.names = set(names)

    def read(self, key: str) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]:
        with np.load(self.path, allow_pickle=False) as arrays:
            beside = next((key + end for end in ("_boxes", "_bbox") if key + end in self.names), None)
            return arrays[key], None if beside is None else arrays[beside], None


class _Folder(ReadyFeatures):
    """A .npz or .npy for each image; one of boxes may lie beside, as `boxes` or `bbox` in the .npz."""

    def __init__(self, path: Path) -> None:
        self.files = {file.stem: file for file in walk(path) if file.suffix.lower() in (".npz", ".npy")}
        super().__init__(path, self.files)

    def read(self, key: str) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]:
        content = np.load(self.files[key], allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content, None, None
        with content:
            return _of_group(content)


class _Hdf5(ReadyFeatures):
    """A dataset or group for each image."""

    def __init__(self, path: Path) -> None:
        with _hdf5(path) as file:
            names = list(file)
        self.end = next(("_features" for name in names if name.endswith("_features")), "")
        super().__init__(path, [n.removesuffix(self.end) for n in names if n.endswith(self.end)])
        self.names = set(names)
        self.file: Any = None

    def read(self, key: str) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]:
        if self.file is None:
            self.file = _hdf5(self.path)
        found = self.file[key + self.end]
        if hasattr(found, "keys"):
            return _of_group(found)
        boxes = f"{key}_boxes"
        return found[()], self.file[boxes][()] if boxes in self.names else None, None


class _Cs231n(ReadyFeatures):
    """VGG16's fc7 after PCA, a row for each image of a split, beside the captions of coco_captioning."""

    def __init__(self, folder: Path) -> None:
        self.rows = {
            name: (split, row)
            for split in ("train", "val")
            for row, name in enumerate(image_names(folder, split))
        }
        super().__init__(folder, self.rows)
        self.files: dict[str, Any] = {}

    def read(self, key: str) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]:
        split, row = self.rows[key]
        if split not in self.files:
            self.files[split] = _hdf5(self.path / f"{split}2014_vgg16_fc7_pca.h5")
        return self.files[split]["features"][row], None, None


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise CaptionBotError("Features in .h5 need the package h5py: `pip install h5py`.") from None
    return h5py.File(path)


def _of_group(
    group: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]:
    """The arrays of one image by their usual names."""
    names = list(group)
    values = next((name for name in _VALUES if name in names), None)
    if values is None:
        raise ValueError(f"it has {', '.join(names)}, and none of {', '.join(_VALUES)}")
    boxes = next((group[name][()] for name in _BOXES if name in names), None)
    sizes = [float(np.asarray(group[name][()])) for name in ("image_w", "image_h") if name in names]
    return group[values][()], boxes, (sizes[0], sizes[1]) if len(sizes) == 2 else None


def _ready(array: np.ndarray, boxes: np.ndarray | None, size: tuple[float, float] | None) -> Ready:
    """An image's features in our form; ValueError for arrays that are none."""
    values = np.asarray(array, np.float32)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    grid = None
    if values.ndim == 1:
        values, grid = values[None], (1, 1)
    elif values.ndim == 3:
        if values.shape[1] == values.shape[2] != values.shape[0]:  # channels first
            values = values.transpose(1, 2, 0)
        grid = (values.shape[0], values.shape[1])
        values = values.reshape(-1, values.shape[2])
    if values.ndim != 2 or not values.size or len(values) > MOST_PLACES or not np.isfinite(values).all():
        raise ValueError(f"an array of {array.shape} is no features of 1 to {MOST_PLACES:,} places")
    if grid:
        from captionbot.encoders.grid import grid_boxes

        return Ready(values, grid_boxes(*grid)[0].numpy(), grid)
    return Ready(values, _fractions(boxes, size, len(values)))


def _fractions(boxes: np.ndarray | None, size: tuple[float, float] | None, count: int) -> np.ndarray:
    """(P, 4) as fractions; the whole image where there are no boxes, or in pixels of an unknown size."""
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1))
    if boxes is None:
        return whole
    boxes = np.asarray(boxes, np.float32)
    if boxes.shape != (count, 4):
        raise ValueError(f"{count} places have boxes of {boxes.shape}")
    if size is not None:
        boxes = boxes / np.array([*size, *size], np.float32)
    elif boxes.max() > 1.5:
        return whole
    return boxes.clip(0, 1)


def stacked(found: Sequence[Ready]) -> Features:
    """The features of some images as one batch, the places of each behind one another and then padding."""
    import torch

    most, grids = max(len(ready.values) for ready in found), {ready.grid for ready in found}
    values = np.zeros((len(found), most, found[0].values.shape[1]), np.float32)
    boxes = np.zeros((len(found), most, 4), np.float32)
    mask = np.zeros((len(found), most), bool)
    for row, ready in enumerate(found):
        count = len(ready.values)
        values[row, :count], boxes[row, :count], mask[row, :count] = ready.values, ready.boxes, True
    return Features(
        torch.from_numpy(values),
        torch.from_numpy(boxes),
        grids.pop() if len(grids) == 1 else None,
        None if mask.all() else torch.from_numpy(mask),
    )


def _bare(key: str) -> str:
    """A name or number as it is compared: without leading zeros where it is a number."""
    return key.lstrip("0") or "0" if key.isdigit() else key
