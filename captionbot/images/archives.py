"""Members of .zip and .tar archives, one at a time into memory, and none larger than a photo may be."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from captionbot.errors import CaptionBotError

MAX_MEMBER_BYTES = 64_000_000

_PIECE = 1 << 20
_NAMES = re.compile(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
_UNPACKERS: dict[str, Callable[..., Any]] = {
    ".tar": partial(open, mode="rb"),
    ".tgz": gzip.open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_DAMAGE = (
    EOFError,
    OSError,
    RuntimeError,  # zipfile's word for a password that it was not given
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


def is_folder(path: Path) -> bool:
    """Whether it is one, as far as it may be known; `Path` raises for names too long and locked folders."""
    with suppress(OSError):
        return path.is_dir()
    return False


def is_file(path: Path) -> bool:
    """As `is_folder`."""
    with suppress(OSError):
        return path.is_file()
    return False


def is_archive(path: Path) -> bool:
    return _NAMES.search(path.name) is not None and is_file(path)


@dataclass(frozen=True)
class Member:
    """A file in an archive. Its name is a label: who makes a path of it must check it.

    size: in bytes, as the archive claims; what is read must be just as long.
    """

    archive: Path
    name: str
    size: int
    open: Callable[[], IO[bytes]]

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read(self) -> bytes:
        """Its bytes, while the iteration stands at it; CaptionBotError if damaged, locked or too large."""
        with _sentence(f"{self} cannot be unpacked"):
            if self.size <= MAX_MEMBER_BYTES:
                with self.open() as file:
                    data = file.read(self.size + 1)
                if len(data) == self.size:
                    return data
                raise EOFError("not of the size that it claims")
        raise CaptionBotError(
            f"{self} is larger than {MAX_MEMBER_BYTES // 1_000_000} MB unpacked, the most that is read: "
            "make it smaller."
        )

    def pieces(self) -> Iterator[bytes]:
        """Its bytes piece by piece, however many, while the iteration stands at it; errors as of `read`."""
        with _sentence(f"{self} cannot be unpacked"):
            left = self.size
            with self.open() as file:
                while piece := file.read(min(left + 1, _PIECE)):
                    left -= len(piece)
                    if left < 0:
                        break
                    yield piece
            if left:
                raise EOFError("not of the size that it claims")


def members(archive: Path) -> Iterator[Member]:
    """The regular files in an archive, in its order; CaptionBotError where it is damaged."""
    with _sentence(f"{archive} is damaged"):
        yield from _zip_members(archive) if archive.suffix.lower() == ".zip" else _tar_members(archive)


@contextmanager
def _sentence(start: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise CaptionBotError(f"{start} ({error}): pack or download it again.") from error


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if not info.is_dir():
                yield Member(archive, info.filename, info.file_size, partial(file.open, info))


def _tar_members(archive: Path) -> Iterator[Member]:
    unpack = _UNPACKERS.get(archive.suffix.lower(), _UNPACKERS[".tar"])
    with unpack(archive) as unpacked:
        bounded: Any = _Bounded(unpacked)
        with tarfile.open(fileobj=bounded, mode="r:") as file:
            for info in file:
                if info.isreg():  # neither links nor devices
                    member: Any = partial(file.extractfile, info)
                    yield Member(archive, info.name, info.size, member)
        if bounded.last.strip(b"\0"):  # an archive ends with zeros or nothing; tarfile stops at anything
            raise tarfile.ReadError("a broken header")


class _Bounded:
    """An unpacked tar that hands out no more at a time than a photo may hold.

    A header can claim any size, and tarfile reads headers whole: a small .tar.gz could fill the memory.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.last = b""

    def read(self, size: int) -> bytes:
        if size > MAX_MEMBER_BYTES + tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._file.read(size)
        return self.last
