"""Images of every kind become upright RGB, or one clear sentence; and numbers for the encoders."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from numbers import Integral
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from captionbot.errors import CaptionBotError
from captionbot.images.archives import Member, is_archive, is_folder, members
from captionbot.images.urls import Address, fetch, is_public

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ImageLike = str | PathLike[str] | bytes | BinaryIO | Image.Image

MAX_PIXELS = 100_000_000
# Pillow warns from 89 megapixels on, which here are allowed. Not silenced while a photo is read alone, as
# `warnings.catch_warnings` holds for all threads.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

_INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TURNS = {  # how to undo each of the EXIF orientations
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# EPS runs Ghostscript on what a stranger sent; the others are named by Pillow but cannot be drawn.
_REFUSED_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, the common ones first."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _REFUSED_FORMATS)


@cache
def image_extensions() -> frozenset[str]:
    """The endings of file names, in lower case with their dot, that a folder or archive is searched for."""
    known = Image.registered_extensions()
    return frozenset(extension for extension, name in known.items() if name in _formats())


def load_image(source: ImageLike, at_least: int | None = None) -> Image.Image:
    """An upright RGB image; transparency becomes white, an animation its first frame.

    source: a path, an http or https address, the bytes of a file, an open file, or an image.
    at_least: JPEG files may come smaller than they are, both sides at least this many pixels: several
        times as fast where an encoder shrinks them anyway.
    Raises CaptionBotError for what is missing, unreadable, damaged, no image, or above 100 megapixels.
    """
    if isinstance(source, Image.Image):
        return _guarded(lambda: _rgb(_checked(source, "the image")), "the image")
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(source), "the image", at_least)
    if isinstance(source, str) and re.match(r"\w+://", source.strip()):
        return load_url(source.strip(), at_least=at_least)
    if isinstance(source, str) and not source:  # to `Path` it is the present folder
        raise CaptionBotError("The path is empty: give the path of an image.")
    if isinstance(source, str | PathLike):
        return _load_file(Path(source), at_least)
    if callable(getattr(source, "read", None)):
        return _decode(source, str(getattr(source, "name", "the file")), at_least)
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
    url: str, allow: Callable[[Address], bool] = is_public, at_least: int | None = None
) -> Image.Image:
    """The image at an http or https address on the public internet, as of `load_image`.

    allow: which addresses may be connected to; pages never pass one.
    """
    return _decode(io.BytesIO(fetch(url, allow=allow)), url, at_least)


def _load_file(path: Path, at_least: int | None = None) -> Image.Image:
    try:
        if path.is_dir():
            raise CaptionBotError(f"{path} is a folder: give an image file in it.")
        if path.exists() and not path.is_file():
            raise CaptionBotError(f"{path} is a pipe or a device: give an image file.")
        with path.open("rb") as file:
            return _decode(file, str(path), at_least)
    except FileNotFoundError:
        raise CaptionBotError(f"{path} does not exist: give the path of an image.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise CaptionBotError(f"{path} cannot be read ({error}): give the path of an image.") from error


def _decode(file: BinaryIO, name: str, at_least: int | None = None) -> Image.Image:
    def decode() -> Image.Image:
        with Image.open(file, formats=_formats()) as image:
            _checked(image, name)
            if at_least:
                image.draft(None, (at_least, at_least))
            return _rgb(image)

    return _guarded(decode, name)


def _guarded(decode: Callable[[], Image.Image], name: str) -> Image.Image:
    """What `decode` returns, its failures turned into sentences."""
    try:
        return decode()
    except CaptionBotError:
        raise
    except UnidentifiedImageError as error:
        raise CaptionBotError(
            f"{name} is empty or not an image that can be read: give a JPEG, PNG, WebP, GIF or TIFF file."
        ) from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, above ours, seen as it opens a file
        raise _too_large(name) from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise CaptionBotError(f"{name} is a damaged image ({error}): save or download it again.") from error


def _too_large(name: str) -> CaptionBotError:
    return CaptionBotError(
        f"{name} has more than {MAX_PIXELS // 1_000_000} megapixels, the most that is read: make it smaller."
    )


def _checked(image: Image.Image, name: str) -> Image.Image:
    """The same image, once its size is known to be fit for decoding."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name)
    if not image.width * image.height:
        raise CaptionBotError(f"{name} has no pixels: give an image of at least 1 x 1.")
    return image


def _rgb(image: Image.Image) -> Image.Image:
    image.load()  # here, so that damage is not mistaken for a bad EXIF block below
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    rgb = _on_white(image) if image.has_transparency_data else image.convert("RGB")
    rgb.info = {}  # its EXIF block would have it turned once more at the next loading
    return rgb


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF block says.

    `ImageOps.exif_transpose` also writes that block anew, which fails, turn and all, where any entry
    in it is malformed.
    """
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a block that cannot be read at all is no reason to refuse a good photo
        turn = None
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(layer, mask=layer.getchannel("A"))
    return canvas


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits or floats as 8 bits. Pillow's `convert` clips at 255: photos turn white.

    The range is the smallest of 0..1, 0..255 and 0..65535 that holds all values, else that of the values.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    if image.mode.startswith("I;16"):
        low, high = 0, 65535
    elif low >= 0 and high <= 65535:
        low, high = 0, next(top for top in (1, 255, 65535) if high <= top)
    scale = 255 / (high - low) if high > low else 0.0
    return Image.fromarray(np.rint((values - low) * scale).astype(np.uint8))


@dataclass(frozen=True)
class ImageSource:
    """One image that a person named: what it is called, and how it is loaded.

    load: the upright RGB image, or with `load(at_least)` perhaps a smaller one, as of `load_image`; raises
        CaptionBotError where there is none.
    """

    name: str
    load: Callable[..., Image.Image]


def find_images(paths: Iterable[str | PathLike[str]]) -> Iterator[ImageSource]:
    """The images of files, folders, .zip and .tar archives and addresses, in order, one at a time.

    Folders are searched to the bottom and sorted; hidden files are skipped. Members of archives are
    read into memory as their turn comes, never written to disk, so let go of each source after use.
    Nothing is raised here: a path that is missing, empty or damaged is a source whose `load` says so.
    """
    for path in paths:
        name = str(path)
        if not name or re.match(r"\w+://", name):
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
            with suppress(CaptionBotError):
                found = sum(map(_is_photo, members(path)))
        total += found or 1  # what holds none is one that failed
    return total


def _failure(name: str, sentence: str) -> ImageSource:
    def load(at_least: int | None = None) -> Image.Image:
        raise CaptionBotError(sentence)

    return ImageSource(name, load)


def _or_failure(found: Iterator[ImageSource], name: str) -> Iterator[ImageSource]:
    """All that was found, and a failure where that is nothing."""
    first = next(found, None)
    if first is None:
        yield _failure(name, f"{name} holds no images: give a folder or archive of photos.")
        return
    yield first
    yield from found


def _is_hidden(part: str) -> bool:
    return (part.startswith(".") and part != "..") or part == "__MACOSX"  # copies that macOS adds to a .zip


def _is_image_name(path: PurePosixPath | Path) -> bool:
    return path.suffix.lower() in image_extensions()


def _in_folder(folder: Path) -> Iterator[ImageSource]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not _is_hidden(entry.name))
    except OSError as error:
        yield _failure(str(folder), f"{folder} cannot be read ({error.strerror}): check its permissions.")
        return
    for entry in entries:
        if is_folder(entry):
            if not entry.is_symlink():  # a link may lead back up
                yield from _in_folder(entry)
        elif _is_image_name(entry):
            yield ImageSource(str(entry), partial(_load_file, entry))


def images_in_archive(archive: Path) -> Iterator[ImageSource]:
    """The images of one archive in its order, as of `find_images`."""
    try:
        for member in members(archive):
            if _is_photo(member):
                yield _unpacked(member)
    except CaptionBotError as error:
        yield _failure(str(archive), str(error))


def _is_photo(member: Member) -> bool:
    path = PurePosixPath(member.name)
    return not any(map(_is_hidden, path.parts)) and _is_image_name(path)


def _unpacked(member: Member) -> ImageSource:
    name = str(member)
    try:
        data = member.read()
    except CaptionBotError as error:
        return _failure(name, str(error))
    return ImageSource(name, lambda at_least=None: _decode(io.BytesIO(data), name, at_least))


@dataclass(frozen=True)
class Preprocessing:
    """How an encoder wants its images: squashed to one size, then (value - mean) / std per channel.

    Squashed, not cropped, so that every pixel of the photo is seen and heatmaps cover all of it.

    size: (height, width) in pixels.
    mean, std: of red, green and blue, for values 0..1.
    interpolation: "bicubic" or "bilinear".
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"

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
    values = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    mean, std = (
        torch.tensor(of_channels, device=device).view(1, 3, 1, 1)
        for of_channels in (preprocessing.mean, preprocessing.std)
    )
    return values.div_(255).sub_(mean).div_(std)


def squash(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """(height, width, 3) uint8, an image at the size that an encoder wants."""
    image = upright_rgb(image)
    height, width = preprocessing.size
    # The gap lets Pillow shrink large photos by whole factors first: the difference is not seen.
    return np.asarray(
        image.resize((width, height), _INTERPOLATIONS[preprocessing.interpolation], reducing_gap=2.0)
    )


def boxes_to_image(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(P, 4) xyxy boxes as fractions of an image of size (width, height) -> in its pixels."""
    width, height = size
    return boxes * np.array([width, height, width, height], dtype=np.float32)
