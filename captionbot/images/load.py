"""Images of every kind become upright RGB, or one clear sentence; and numbers for the encoders."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from captionbot.errors import CaptionBotError, shortened
from captionbot.images.archives import Member, is_archive, is_folder, members
from captionbot.images.decode import Wanted, decode, reason, upright
from captionbot.images.formats import image_extensions as image_extensions
from captionbot.images.formats import is_hidden, is_photo
from captionbot.images.urls import Address, fetch, is_public

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ImageLike = str | PathLike[str] | bytes | BinaryIO | Image.Image

MAX_FILE_BYTES = 1_000_000_000

_INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
_GAP = 2.0  # how much larger than wanted Pillow may leave a photo when it shrinks that by whole factors first
_ADDRESS = re.compile(r"\w+://|data:", re.IGNORECASE)


def load_image(source: ImageLike, at_least: int | None = None, at_most: int | None = None) -> Image.Image:
    """An upright RGB image; transparency becomes white, an animation its first frame.

    source: a path, an http or https address, the bytes of a file, an open file, or an image.
    at_least: the image may come smaller than it is, by a whole factor, both sides at least this many
        pixels: faster, and with less memory, where an encoder shrinks it anyway.
    at_most: both sides at most this many pixels, shrunk by a whole factor where they have more.
    Raises CaptionBotError for what is missing, unreadable, damaged, no image, or too large: above 100
    megapixels, or fewer of formats that take much memory to decode.
    """
    if isinstance(source, Image.Image):
        return upright(source, Wanted(at_least, at_most))
    if isinstance(source, bytes | bytearray | memoryview):
        return decode(bytes(source), "the image", Wanted(at_least, at_most))
    if isinstance(source, str) and _ADDRESS.match(source.strip()):
        return load_url(source.strip(), at_least=at_least, at_most=at_most)
    if isinstance(source, str) and not source:  # to `Path` it is the present folder
        raise CaptionBotError("The path is empty: give the path of an image.")
    if isinstance(source, str | PathLike):
        return _load_file(Path(source), at_least, at_most)
    if callable(getattr(source, "read", None)):
        name = shortened(getattr(source, "name", "the file"))
        return decode(_read(source, name), name, Wanted(at_least, at_most))
    raise CaptionBotError(
        f"An image cannot be made from {type(source).__name__}: "
        "give a path, an address, the bytes of a file, an open file or a PIL image."
    )


def upright_rgb(image: Image.Image) -> Image.Image:
    """What `load_image` makes of an image: the same one, at no cost, where it made it already."""
    if not isinstance(image, Image.Image):
        raise CaptionBotError(
            f"An image is given as {type(image).__name__}: give images as load_image returns them."
        )
    if type(image) is Image.Image and image.mode == "RGB" and not image.info and all(image.size):
        return image  # not a file that is still to be read, and with no EXIF block
    return load_image(image)


def load_url(
    url: str,
    allow: Callable[[Address], bool] = is_public,
    at_least: int | None = None,
    at_most: int | None = None,
) -> Image.Image:
    """The image at an http or https address on the public internet, as of `load_image`.

    allow: which addresses may be connected to; pages never pass one.
    """
    return decode(fetch(url, allow=allow), shortened(url), Wanted(at_least, at_most))


def _load_file(path: Path, at_least: int | None = None, at_most: int | None = None) -> Image.Image:
    name = shortened(path)
    try:
        if path.is_dir():
            raise CaptionBotError(f"{name} is a folder: give an image file in it.")
        if path.exists() and not path.is_file():
            raise CaptionBotError(f"{name} is a pipe or a device: give an image file.")
        with path.open("rb") as file:
            data = _read(file, name)
    except FileNotFoundError:
        raise CaptionBotError(f"{name} does not exist: give the path of an image.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise CaptionBotError(
            f"{name} cannot be read ({reason(error)}): give the path of an image."
        ) from error
    return decode(data, name, Wanted(at_least, at_most))


def _read(file: BinaryIO, name: str) -> bytes:
    """A file's bytes from its start, even where it was read before."""
    with suppress(AttributeError, io.UnsupportedOperation):
        file.seek(0)
    data: bytes | str
    try:
        data = file.read(MAX_FILE_BYTES + 1)
    except UnicodeDecodeError:
        data = ""
    if not isinstance(data, bytes):
        raise CaptionBotError(f"{name} was opened as text: open it in binary mode, 'rb'.")
    if len(data) > MAX_FILE_BYTES:
        raise CaptionBotError(
            f"{name} is larger than {MAX_FILE_BYTES // 1_000_000} MB, the most that is read: make it smaller."
        )
    return data


@dataclass(frozen=True)
class ImageSource:
    """One image that a person named: what it is called, and how it is loaded.

    load: the upright RGB image, with `load(at_least, at_most)` perhaps a smaller one, as of `load_image`;
        raises CaptionBotError where there is none.
    held: bytes of its file that are in memory already.
    """

    name: str
    load: Callable[..., Image.Image]
    held: int = 0


def find_images(paths: Iterable[str | PathLike[str]]) -> Iterator[ImageSource]:
    """The images of files, folders, .zip and .tar archives and addresses, in order, one at a time.

    Folders are searched to the bottom and sorted; hidden files and folders of thumbnails are skipped. Photos
    of a kind that cannot be read, as HEIC or camera raw, are among them: their `load` says so. Members of
    archives are read into memory as their turn comes, never written to disk, so let go of each source after
    use. Nothing is raised here: a path that is missing, empty or damaged is a source whose `load` says so.
    """
    for path in paths:
        name = str(path)
        if not name or _ADDRESS.match(name):
            yield ImageSource(name, partial(load_image, name))
        elif is_folder(Path(name)):
            yield from _or_failure(_in_folder(Path(name)), name)
        elif is_archive(Path(name)):
            yield from _or_failure(images_in_archive(Path(name)), name)
        else:
            yield ImageSource(name, partial(_load_file, Path(name)))


def count_images(paths: Iterable[str | PathLike[str]]) -> int | None:
    """How many images `find_images` will give; None where a .tar, which has no index, is among them."""
    total = 0
    for name in map(str, paths):
        path, found = Path(name), 0
        if name and is_folder(path):
            found = sum(1 for _ in _in_folder(path))
        elif is_archive(path):
            if path.suffix.lower() != ".zip":
                return None
            found = count_in_archive(path)
        total += found or 1  # what holds none is one that failed
    return total


def count_in_archive(archive: Path) -> int:
    """How many images a .zip has by its index; 0 of a damaged one."""
    with suppress(CaptionBotError):
        return sum(map(_is_wanted, members(archive)))
    return 0


def _failure(name: str, sentence: str) -> ImageSource:
    def load(at_least: int | None = None, at_most: int | None = None) -> Image.Image:
        raise CaptionBotError(sentence)

    return ImageSource(name, load)


def _or_failure(found: Iterator[ImageSource], name: str) -> Iterator[ImageSource]:
    """All that was found, and a failure where that is nothing."""
    first = next(found, None)
    if first is None:
        yield _failure(name, f"{shortened(name)} holds no images: give a folder or archive of photos.")
        return
    yield first
    yield from found


def _in_folder(folder: Path) -> Iterator[ImageSource]:
    """Depth first, each folder's entries by name; nothing recurses, however deep the folders are."""
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if not is_folder(path):
            if is_photo(path):
                yield ImageSource(str(path), partial(_load_file, path))
            continue
        try:
            entries = sorted(entry for entry in path.iterdir() if not is_hidden(entry.name))
        except OSError as error:
            yield _failure(
                str(path), f"{shortened(path)} cannot be read ({error.strerror}): check its permissions."
            )
            continue
        # A link to a folder may lead back up.
        waiting += [e for e in reversed(entries) if not (e.is_symlink() and is_folder(e))]


def images_in_archive(archive: Path) -> Iterator[ImageSource]:
    """The images of one archive in its order, as of `find_images`."""
    try:
        for member in members(archive):
            if _is_wanted(member):
                yield _unpacked(member)
    except CaptionBotError as error:
        yield _failure(str(archive), str(error))


def _is_wanted(member: Member) -> bool:
    path = PurePosixPath(member.name)
    return not any(map(is_hidden, path.parts)) and is_photo(path)


def _unpacked(member: Member) -> ImageSource:
    name = str(member)
    try:
        data = member.read()
    except CaptionBotError as error:
        return _failure(name, str(error))

    def load(at_least: int | None = None, at_most: int | None = None) -> Image.Image:
        return decode(data, shortened(name), Wanted(at_least, at_most))

    return ImageSource(name, load, len(data))


@dataclass(frozen=True)
class Preprocessing:
    """How an encoder wants its images: at one size, then (value - mean) / std per channel.

    They are squashed, not cropped, so that every pixel of the photo is seen and heatmaps cover all of it.

    size: (height, width) in pixels.
    mean, std: of red, green and blue, for values 0..1.
    interpolation: "bicubic", "bilinear" or "lanczos".
    crop: whether the shorter side is brought to size, and the middle cut out, as published models may ask.
    exact: whether Pillow resizes photos, and large ones in one go, which is slower; else a few values are off
        by 1 of 255.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    crop: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        if len(self.size) != 2 or not all(isinstance(n, Integral) and n > 0 for n in self.size):
            raise ValueError(f"size must be (height, width), not {self.size}")
        finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if len(self.mean) != 3 or len(self.std) != 3 or not finite or min(self.std) <= 0:
            raise ValueError(f"mean and std must be three numbers each: {self.mean}, {self.std}")
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {', '.join(_INTERPOLATIONS)}, not {self.interpolation}"
            )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """From the fields as a card holds them: JSON has lists where this has tuples."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)


def to_pixel_values(
    images: Sequence[Image.Image], preprocessing: Preprocessing, device: str | torch.device = "cpu"
) -> Tensor:
    """Images -> (B, 3, height, width) float32, channels last in memory, as convolutions like it.

    They go to the device as bytes, a quarter as many, and become numbers there.
    """
    import torch

    device = torch.device(device)
    pixels = torch.empty(
        len(images), *preprocessing.size, 3, dtype=torch.uint8, pin_memory=device.type == "cuda"
    )
    for row, image in zip(pixels.numpy(), images, strict=True):
        row[:] = squash(image, preprocessing)
    values = pixels.to(device, non_blocking=True).float()
    mean, std = (torch.tensor(n, device=device) for n in (preprocessing.mean, preprocessing.std))
    # Row by row of all colours: torch takes twice as long to go through three numbers at a time.
    rows, width = values.flatten(0, 1).flatten(1), values.shape[2]
    torch.addcmul((-mean / std).repeat(width), rows, (1 / (255 * std)).repeat(width), out=rows)
    return values.permute(0, 3, 1, 2)


def squash(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """(height, width, 3) uint8, an image at the size that an encoder wants."""
    image = upright_rgb(image)
    height, width = preprocessing.size
    inside = (width, height)
    if preprocessing.crop:
        scale = max(width / image.width, height / image.height)
        inside = max(width, int(image.width * scale)), max(height, int(image.height * scale))
    pixels = _resized(image, inside, preprocessing)
    if preprocessing.crop:
        left, top = (inside[0] - width) // 2, (inside[1] - height) // 2
        pixels = pixels[top : top + height, left : left + width]
    return pixels


def _resized(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> np.ndarray:
    """(height, width, 3) uint8 of an image at a size (width, height)."""
    if image.size == size:
        return np.asarray(image)
    shrinks = max(now / then for now, then in zip(image.size, size, strict=True))
    if preprocessing.exact or preprocessing.interpolation == "lanczos" or shrinks >= 2 * _GAP:
        gap = None if preprocessing.exact else _GAP
        resampling = _INTERPOLATIONS[preprocessing.interpolation]
        return np.asarray(image.resize(size, resampling, reducing_gap=gap))
    import torch
    from torch.nn import functional as F

    # torch's filters are Pillow's, up to 1 of 255 in one value of 250, in vectors: 0.2 instead of 2.2 ms.
    pixels = torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)  # so that they stay channels last
    resized = F.interpolate(pixels, size[::-1], mode=preprocessing.interpolation, antialias=True)
    found: np.ndarray = resized[0].permute(1, 2, 0).numpy()
    return found


def boxes_to_image(
    boxes: np.ndarray, size: tuple[int, int], preprocessing: Preprocessing | None = None
) -> np.ndarray:
    """(P, 4) xyxy boxes as fractions of what an encoder saw of an image of size (width, height) -> pixels.

    preprocessing: what made it: of a cropped image an encoder saw the middle. None: the whole image.
    """
    width, height = size
    if preprocessing is not None and preprocessing.crop:
        high, wide = preprocessing.size
        scale = max(wide / width, high / height)  # of what was seen to the image
        seen = np.array([wide, high, wide, high], dtype=np.float32) / scale
        left, top = (width - wide / scale) / 2, (height - high / scale) / 2
        moved: np.ndarray = boxes * seen + np.array([left, top, left, top], dtype=np.float32)
        return moved
    return boxes * np.array([width, height, width, height], dtype=np.float32)
