"""A text beside each image: `key.jpg` and `key.txt` or `key.json`, in a folder or in .tar shards.

The shards are those of WebDataset (https://github.com/webdataset/webdataset) and img2dataset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from captionbot.errors import CaptionBotError
from captionbot.images.archives import members
from training.data import SUFFIXES, Example
from training.data.files import split_name
from training.data.tables import Row, parse_row, to_examples


class _File(NamedTuple):
    """One file among images and texts. where: how an error calls it; data: of texts alone."""

    name: PurePosixPath
    where: str
    data: bytes


def has_texts(path: Path) -> bool:
    """Whether a folder or a .tar file has a text beside any of its images."""
    return next(_rows(_members(path) if path.is_file() else _files(path), None), None) is not None


def read_texts(folder: Path) -> list[Example]:
    """Examples of a folder with a text beside each image, in order of name; a line is a caption."""
    return to_examples(_rows(_files(folder), None), folder)


def read_shards(paths: Sequence[Path]) -> list[Example]:
    """Examples of .tar shards, in order of name.

    A shard whose name or folder says train, val or test is of that split.
    """
    rows: list[Row] = []
    for path in paths:
        rows += _rows(_members(path), _split_of(path))
    return to_examples(rows, paths[0].parent)


def _split_of(shard: Path) -> str | None:
    for part in (shard.stem, shard.parent.name):
        if match := re.match(r"(train|training|val|valid|validation|dev|test)(?![a-z])", part.lower()):
            return split_name(match[1])
    return None


def _files(folder: Path) -> Iterator[_File]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes() if path.suffix.lower() in (".txt", ".json") else b""
            yield _File(PurePosixPath(path.relative_to(folder).as_posix()), str(path), data)


def _members(shard: Path) -> Iterator[_File]:
    for member in members(shard):
        name = PurePosixPath(member.name)
        data = member.read() if name.suffix.lower() in (".txt", ".json") else b""
        yield _File(name, str(member), data)


def _rows(files: Iterable[_File], split: str | None) -> Iterator[Row]:
    """One row for each image that has a text; images without are for `training.data check` to find."""
    images: dict[PurePosixPath, str] = {}
    texts: dict[PurePosixPath, dict[str, _File]] = {}
    for file in files:
        key, suffix = file.name.with_suffix(""), file.name.suffix.lower()
        if file.name.name.startswith("."):
            continue
        if suffix in SUFFIXES:
            images[key] = file.name.name
        elif suffix in (".txt", ".json"):
            texts.setdefault(key, {})[suffix] = file
    for key in texts:
        if key in images:
            yield _row(images[key], texts[key], split)


def _row(image: str, texts: dict[str, _File], split: str | None) -> Row:
    """What the .json beside an image says, with the captions of the .txt if there is one."""
    fields = {}
    try:
        if ".json" in texts:
            where = texts[".json"].where
            fields = dict(json.loads(texts[".json"].data))
        if ".txt" in texts:
            where = texts[".txt"].where
            lines = texts[".txt"].data.decode("utf-8-sig").split("\n")
            fields = {"split": fields.get("split"), "captions": [line for line in lines if line.strip()]}
    except (ValueError, TypeError) as error:
        raise CaptionBotError(f"{where} is neither text in UTF-8 nor a JSON object: {error}.") from error
    return parse_row({"split": split, **{k: v for k, v in fields.items() if v is not None}}, where, image)
