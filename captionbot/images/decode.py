"""The bytes of one image file -> upright RGB, within limits of size, memory and time, or a sentence."""

from __future__ import annotations

import ctypes
import io
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from captionbot.errors import CaptionBotError, shortened
from captionbot.images.containers import levels_of, orientation, without_metadata
from captionbot.images.convert import to_rgb, turned
from captionbot.images.formats import (
    MAX_SIDE,
    MEMORY,
    bytes_a_pixel,
    formats,
    is_camera_raw,
    max_pixels,
    unreadable,
)

MAX_SECONDS = 4.0  # of a processor, for decoding one image
_LARGE = 60_000_000  # bytes, of some 8 megapixels
_MOST_JPEG2000 = 12_000_000  # bytes, a third of a second of decoding each million


@dataclass(frozen=True)
class Wanted:
    """How large an image should come, as of `load_image`."""

    at_least: int | None = None
    at_most: int | None = None

    def factor(self, size: tuple[int, int]) -> int:
        """By which an image of that size is shrunk."""
        needed = -(-max(size) // self.at_most) if self.at_most else 1
        possible = min(size) // self.at_least if self.at_least else 1
        return max(needed, possible, 1)


def decode(data: bytes, name: str, wanted: Wanted) -> Image.Image:
    """name: what a sentence calls the file, as of `shortened`."""
    _prepare()
    with _sentences(name, data):
        if is_camera_raw(name, data):
            raise CaptionBotError(f"{name} {unreadable(name)}")
        clean, turn = without_metadata(data, name)
        image = Image.open(_Timed(clean, name), formats=formats())
        _check(image, name)
        memory = image.width * image.height * bytes_a_pixel(image.format)  # whole, for progressive JPEGs
        factor = _shrunk(image, clean, name, wanted)
        depth = 16 if any(";16" in str(tile) for tile in image.tile) else None
        with _ROOM.taken(memory):
            try:
                image.load()
                turn = _turn_of(image) if turn is None else turn
                rgb = to_rgb(image, factor, depth)
            finally:
                image.close()
                del image  # and its decoder: others take its room from here on
            upright = turned(rgb, turn)
    upright.info = {}
    return upright


def upright(image: Image.Image, wanted: Wanted) -> Image.Image:
    """As `decode`, of an image that is open already."""
    with _sentences("the image", b""):
        _check(image, "the image")
        image.load()  # here, so that damage is not mistaken for a bad EXIF block below
        try:
            turn = image.getexif().get(ExifTags.Base.Orientation)
        except Exception:  # a block that cannot be read at all is no reason to refuse a good photo
            turn = None
        rgb = turned(to_rgb(image, wanted.factor(image.size)), turn)
    rgb.info = {}  # its EXIF block would have it turned once more at the next loading
    return rgb


class _Room:
    """Memory that is shared by all who decode: a large image waits until others are done."""

    def __init__(self, size: int) -> None:
        self.size, self.used, self.changed = size, 0, threading.Condition()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: not self.used or self.used + amount <= self.size)
            self.used += amount
        try:
            yield
        finally:
            if amount > _LARGE:
                _give_back()
            with self.changed:
                self.used -= amount
                self.changed.notify_all()

    def forget(self) -> None:
        """In a forked child, where no one else decodes, and a lock that was held would be held for ever."""
        self.used, self.changed = 0, threading.Condition()


_ROOM = _Room(MEMORY)


def _give_back() -> None:
    """Have the C library hand freed memory back: it keeps some for each thread that decoded a large image."""
    with suppress(OSError, AttributeError, TypeError):  # of glibc alone; no such library on Windows
        ctypes.CDLL(None).malloc_trim(0)


class _Timed(io.BytesIO):
    """A file that stops being read once its reader took too much of a processor's time.

    Decoders in Python, and those that are fed piece by piece, read as they go. What takes long between two
    reads is bounded by limits of its own.
    """

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._name, self._ends = name, time.thread_time() + MAX_SECONDS

    def _check(self) -> None:
        if time.thread_time() > self._ends:
            raise CaptionBotError(
                f"{self._name} takes more than {MAX_SECONDS:g} seconds to decode: save it as JPEG or PNG."
            )

    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().readline(size)

    def readinto(self, buffer: Any, /) -> int:
        self._check()
        return super().readinto(buffer)


@cache
def _prepare() -> None:
    """What the first image needs, once: forked children get room of their own, and libtiff says nothing.

    It writes a line to stderr for every row that it does not like. Redirecting stderr itself would take the
    words of other threads.
    """
    from PIL import _imaging

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_ROOM.forget)

    with suppress(OSError, AttributeError, TypeError):  # a Pillow that has libtiff in itself, or none
        library = ctypes.CDLL(_imaging.__file__)
        for setter in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
            function = getattr(library, setter)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)


def _check(image: Image.Image, name: str) -> None:
    """Whether an image's size is fit for decoding."""
    if not image.width * image.height:
        raise CaptionBotError(f"{name} has no pixels: give an image of at least 1 x 1.")
    if image.width * image.height > max_pixels(image.format):
        raise _too_large(name, image.format)
    if max(image.size) > MAX_SIDE:
        raise CaptionBotError(
            f"{name} is {image.width} x {image.height} pixels, where a side may have {MAX_SIDE:,}: cut it up."
        )


def _too_large(name: str, format: str | None = None) -> CaptionBotError:
    limit = max_pixels(format)
    kind = f" of {format} files" if limit < max_pixels(None) else ""
    return CaptionBotError(
        f"{name} has more than {limit // 1_000_000} megapixels, the most that is read{kind}: make it smaller."
    )


def _shrunk(image: Image.Image, data: bytes, name: str, wanted: Wanted) -> int:
    """Has a decoder that can leave out detail do so; the factor that is left to shrink by."""
    factor = wanted.factor(image.size)
    width, height = (max(1, side // factor) for side in image.size)
    if image.format == "JPEG2000":
        # One halving less than there could be: wavelets leave aliases, which the mean of pixels does not.
        most = min(factor.bit_length() - 1, levels_of(data))
        halvings = most if len(data) > _MOST_JPEG2000 else max(0, most - 1)
        if len(data) >> 2 * halvings > _MOST_JPEG2000:
            raise CaptionBotError(
                f"{name} is a JPEG 2000 of more than {_MOST_JPEG2000 // 1_000_000} MB, which takes too long "
                "to decode: save it as JPEG or PNG."
            )
        if halvings:
            image.reduce = halvings  # type: ignore[method-assign, assignment]
        return max(1, factor >> halvings)
    if factor > 1:
        image.draft(None, (width, height))
    return wanted.factor(image.size)


def _turn_of(image: Image.Image) -> int | None:
    exif, xmp = (image.info.get(key, b"") for key in ("exif", "xmp"))
    return orientation(exif if isinstance(exif, bytes) else b"", xmp if isinstance(xmp, bytes) else b"")


@contextmanager
def _sentences(name: str, data: bytes) -> Iterator[None]:
    """What goes wrong with an image, as sentences."""
    try:
        yield
    except CaptionBotError:
        raise
    except UnidentifiedImageError as error:
        said = unreadable(name, data[:64]) or (
            "is empty or not an image that can be read: give a JPEG, PNG, WebP, GIF or TIFF file."
        )
        raise CaptionBotError(f"{name} {said}") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, above ours, seen as it opens a file
        raise _too_large(name) from error
    except MemoryError as error:
        raise CaptionBotError(
            f"{name} takes more memory to decode than there is: make it smaller."
        ) from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise CaptionBotError(
            f"{name} is a damaged image ({reason(error)}): save or download it again."
        ) from error


def reason(error: Exception) -> str:
    """An error's own words, for the brackets of a sentence."""
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return shortened(re.sub(r"\s+", " ", str(told)), 120)
