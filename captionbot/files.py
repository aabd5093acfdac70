"""Files that are whole or not there, and held by one program; JSON of strangers; and where the cache is."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError, shortened

MOST_JSON = 16_000_000  # bytes; as Python's objects they may take fifty times as many

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # of network folders, as a rule


def cache_folder() -> Path:
    """The folder of what was downloaded and measured: CAPTIONBOT_CACHE, else ~/.cache/captionbot.

    Raises CaptionBotError where there is no home folder.
    """
    try:
        return Path(os.environ.get("CAPTIONBOT_CACHE") or Path.home() / ".cache" / "captionbot")
    except RuntimeError as error:  # a user without an entry, as in some containers
        raise CaptionBotError(
            "There is no home folder: set CAPTIONBOT_CACHE to one for downloads."
        ) from error


def utf8(text: str) -> bytes:
    """The text in UTF-8; halves of characters, as names that are not UTF-8 hold, as JSON's \\udce9."""
    return text.encode("utf-8", "backslashreplace")


def hold(descriptor: int, name: Path) -> None:
    """Keep an open file or folder from other programs that ask so, until it is closed.

    Devices and pipes, which many may write to, are let be, and so is all where a system has no such locks.
    Raises CaptionBotError where another program holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CaptionBotError(
            f"Another run is writing to {shortened(name)}: give another --out, or wait until it has ended."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """`hold` of a folder that is there, as long as this lasts."""
    if os.name == "nt":  # which opens no folder
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        hold(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Where to write a file that then takes the place of `path`; if that goes wrong, nothing of it stays."""
    partial = path.with_name(f".{path.name}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file holds; OSError or ValueError, in a few words, where that cannot be read."""
    with path.open("rb") as file:
        return parse_json(file.read(MOST_JSON + 1))


def parse_json(data: bytes) -> Any:
    """What the bytes of a JSON file hold; ValueError, in a few words, where they are none."""
    if len(data) > MOST_JSON:
        raise ValueError(f"it has more than {MOST_JSON // 1_000_000} MB")
    try:
        values = json.loads(data.decode("utf-8-sig"))
        if b"\\u" in data:  # two escapes are one character, and one of them alone none: it cannot be written
            json.dumps(values, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeError:
        raise ValueError("it is no text in UTF-8") from None
    return values
