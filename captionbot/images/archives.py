"""Members of .zip and .tar archives, one at a time into memory, and none larger than a photo may be."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
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

from captionbot.errors import CaptionBotError, shortened

MAX_MEMBER_BYTES = 64_000_000

MAX_INDEX_BYTES = 24_000_000  # of a .zip: some 200,000 files

_PIECE = 1 << 20
_UTF8 = 0x800  # the flag of a name in UTF-8
_UNICODE_PATH = 0x7075
_INDEX_END = 65_557 + 76  # the end of a .zip with the longest comment, and its counterpart in zip64
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
        with _sentence(f"{shortened(self)} cannot be unpacked"):
            if self.size <= MAX_MEMBER_BYTES:
                with self.open() as file:
                    data = file.read(self.size + 1)
                if len(data) == self.size:
                    return data
                raise EOFError("not of the size that it claims")
        raise CaptionBotError(
            f"{shortened(self)} is larger than {MAX_MEMBER_BYTES // 1_000_000} MB unpacked, the most that is "
            "read: make it smaller."
        )

    def pieces(self) -> Iterator[bytes]:
        """Its bytes piece by piece, however many, while the iteration stands at it; errors as of `read`."""
        with _sentence(f"{shortened(self)} cannot be unpacked"):
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
    with _sentence(f"{shortened(archive)} is damaged"):
        yield from _zip_members(archive) if archive.suffix.lower() == ".zip" else _tar_members(archive)


@contextmanager
def _sentence(start: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise CaptionBotError(f"{start} ({shortened(error, 120)}): pack or download it again.") from error


def _zip_members(archive: Path) -> Iterator[Member]:
    _check_index(archive)
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if not info.is_dir():
                yield Member(archive, _zip_name(info), info.file_size, partial(file.open, info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A member's name, which macOS and others write in UTF-8 without the flag that says so.

    The standard's other encoding is code page 437. Info-ZIP puts the name in UTF-8 beside one in any other.
    """
    if info.flag_bits & _UTF8:
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:  # zipfile has found the name in an extra field, as later ones do
        return info.filename
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            raw = field[5:]
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return info.filename


def _check_index(archive: Path) -> None:
    """Refuses an index that is too large before zipfile makes an object of each of its entries."""
    file: IO[bytes] = archive.open("rb") if isinstance(archive, Path) else archive
    try:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _INDEX_END))
        tail = file.read(_INDEX_END)
        at = tail.rfind(b"PK\5\6")
        size = struct.unpack_from("<I", tail, at + 12)[0] if 0 <= at <= len(tail) - 22 else 0
        far = tail.rfind(b"PK\6\6")
        if size == 0xFFFFFFFF and 0 <= far <= len(tail) - 56:
            (size,) = struct.unpack_from("<Q", tail, far + 40)
    finally:
        if isinstance(archive, Path):
            file.close()
        else:
            file.seek(0)
    if size > MAX_INDEX_BYTES:
        raise CaptionBotError(
            f"{shortened(archive)} has too many files, in an index of {size // 1_000_000} MB where "
            f"{MAX_INDEX_BYTES // 1_000_000} are read: pack it as several archives."
        )


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
