"""What the readers of all formats share: text, JSON and YAML, names of photos, and splits by name."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from captionbot.errors import CaptionBotError, shortened
from captionbot.images.formats import is_hidden

VAL_SHARE = 0.1
VAL_LEAST = 4  # photos, of which the loss can choose an epoch (`training.run.choice`)

_SPLITS = {
    "train": ("train", "training", "restval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


_SPLIT = re.compile(r"(?<![a-z])(train|training|val|valid|validation|dev|test|testing)(?![a-z])")
_LONGEST_YAML = 200_000
_MOST_YAML = 10_000  # values in a file of YAML, each counted as often as it is named again


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in UTF-16 with its byte order mark, as Windows programs write both."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaptionBotError(
            f"{shortened(path)} cannot be read ({error.strerror}): give the path of a file."
        ) from error
    return decoded(data, str(path))


def decoded(data: bytes, where: str, errors: str = "strict") -> str:
    """The text of a file, as of `read_text`, its lines ended by line feeds.

    where: how an error calls it.
    errors: "replace" for a part of a file, which may end within a character.
    """
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise CaptionBotError(
            f"{shortened(where)} is not text in UTF-8 ({error.reason}); convert it first."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def beginning(path: Path, size: int) -> str:
    """About so many bytes of a file, as text whatever it is."""
    with path.open("rb") as file:
        return decoded(file.read(size), str(path), errors="replace")


def finder(*patterns: str, head: str) -> Callable[[Path], list[Path]]:
    """Finds the files of the first pattern that has any; a given file may be known by its head instead."""

    def find(path: Path) -> list[Path]:
        if path.is_file():
            return [path] if any(map(path.match, patterns)) or begins(path, head) else []
        for pattern in patterns:
            if found := [file for file in sorted(path.glob(pattern)) if file.is_file()]:
                return found
        return []

    return find


def begins(path: Path, pattern: str, size: int = 1 << 16) -> bool:
    """Whether the first bytes of a file, which its format is known by, are of a pattern."""
    return re.match(pattern, beginning(path, size), re.DOTALL | re.IGNORECASE) is not None


def read_json(path: Path) -> Any:
    return parse_json(read_text(path), shortened(path))


def parse_json(text: str, where: str) -> Any:
    """where: how an error calls the text."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise CaptionBotError(
            f"{where} is not JSON ({shortened(error)}): download or write it again."
        ) from error
    except RecursionError:
        raise CaptionBotError(f"{where} is JSON that is nested too deeply: write it again.") from None


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; ValueError, in a few words, where it is none or too large."""
    import yaml

    if len(text) > _LONGEST_YAML:  # its parser, in Python, takes seconds for a megabyte
        raise ValueError(f"it has more than {_LONGEST_YAML:,} characters")
    try:
        value = yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # a tag on what it does not fit, as !!bool x, fails in any way
        raise ValueError(shortened(" ".join(str(error).split()))) from None
    waiting, count = [value], 0
    while waiting:  # names that stand for lists of names make a short file as large as one likes
        count += 1
        if count > _MOST_YAML:
            raise ValueError(f"it holds more than {_MOST_YAML:,} values")
        part = waiting.pop()
        waiting += (
            [*part, *part.values()] if isinstance(part, dict) else part if isinstance(part, list) else []
        )
    return value


def walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, in order; none that are hidden, or in what is, and no links to folders."""
    files, folders = [], [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif entry.is_file():
                        files.append(Path(entry.path))
        except OSError as error:
            raise CaptionBotError(
                f"{shortened(error.filename or folder)} cannot be read ({error.strerror}): "
                "check its permissions, or keep the data set in fewer folders."
            ) from error
    yield from sorted(files)


@lru_cache(10_000)  # a row a caption names each image some times in turn
def image_path(text: str) -> PurePosixPath:
    """The path of an image as data sets tell it: with / or \\, of Windows, or of an address."""
    if not isinstance(text, str):  # as a number in JSON would be
        raise TypeError(f"the image's name {shortened(text)} is not text")
    if "://" in text:
        text = unquote(urlsplit(text).path)
    return PurePosixPath(text.strip().replace("\\", "/"))


def told_apart(places: Iterable[PurePosixPath]) -> dict[PurePosixPath, str]:
    """Names of photos by their paths: the file's name alone where no other has it, else with its folders."""
    places = list(places)
    count = Counter(place.name for place in places)
    return {place: place.name if count[place.name] == 1 else str(place) for place in places}


def nearest(name: str, places: Iterable[str]) -> list[str]:
    """Those of some paths that end as a name does in the most of their folders, of one file name all."""
    folders = PurePosixPath(name).parent.parts[::-1]

    def shared(place: str) -> int:
        parts = zip(folders, image_path(place).parent.parts[::-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], parts))

    ends = {place: shared(place) for place in places}
    return [place for place, count in ends.items() if count == max(ends.values())]


def split_in(*names: str) -> str | None:
    """The split that the first of the names of files or folders with one tells: val2017 is "val"."""
    for name in names:
        if found := _SPLIT.search(name.lower()):
            return split_name(found[1])
    return None


def split_name(text: str) -> str:
    """ "train", "val" or "test" for a split under any of its usual names.

    Karpathy's `restval`, the images of COCO's val2014 outside his val and test, is trained on, as is
    usual since arXiv 1412.2306.
    """
    for split, names in _SPLITS.items():
        if text.strip().lower() in names:
            return split
    allowed = ", ".join(name for names in _SPLITS.values() for name in names)
    raise CaptionBotError(f"'{shortened(text)}' is not a split; the splits are {allowed}.")


def split_by_name(names: Iterable[str]) -> dict[str, str]:
    """Names to "train" or, about a tenth of them, "val", for data sets that come without splits.

    The SHA-256 of the name decides, so all machines agree, and in all but small data sets a photo stays where
    it is as others are added. Of twelve or more names at least `VAL_LEAST` are in val, of fewer a third, and
    of two one.
    """
    order = sorted(set(names), key=_share)
    least = max(1, min(VAL_LEAST, len(order) // 3))
    val = {name for name in order if _share(name) < VAL_SHARE} | set(order[:least])
    return {name: "val" if name in val - set(order[-1:]) else "train" for name in order}


def _share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    try:
        data = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, not a byte of a name that is not UTF-8
        data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8]) / 2**64
