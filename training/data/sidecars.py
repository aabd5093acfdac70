"""A text beside each image, in a folder or in .tar shards: key.txt, key.caption or key.json of key.jpg.

Also key.jpg.txt and so on. Where both are there the .caption counts: programs that label photos keep tags in
the .txt. The shards are those of WebDataset (https://github.com/webdataset/webdataset) and img2dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from captionbot.errors import CaptionBotError
from captionbot.images.archives import members
from training.data import Example, is_image
from training.data.files import decoded, parse_json, split_in, walk
from training.data.tables import Row, parse_row, to_examples

_TEXTS = (".caption", ".txt")  # a caption a line; the first that is there counts
_SUFFIXES = (*_TEXTS, ".json")


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
        rows += _rows(_members(path), split_in(path.stem, path.parent.name))
    return to_examples(rows, paths[0].parent)


def _files(folder: Path) -> Iterator[_File]:
    for path in walk(folder):
        data = path.read_bytes() if path.suffix.lower() in _SUFFIXES else b""
        yield _File(PurePosixPath(path.relative_to(folder).as_posix()), str(path), data)


def _members(shard: Path) -> Iterator[_File]:
    for member in members(shard):
        name = PurePosixPath(member.name)
        data = member.read() if name.suffix.lower() in _SUFFIXES else b""
        yield _File(name, str(member), data)


def _rows(files: Iterable[_File], split: str | None) -> Iterator[Row]:
    """One row for each image that has a text; images without are for `training.data check` to find."""
    images: dict[PurePosixPath, PurePosixPath] = {}
    texts: dict[PurePosixPath, dict[str, _File]] = {}
    for file in files:
        key, suffix = file.name.with_suffix(""), file.name.suffix.lower()
        if is_image(file.name.name):
            images[key] = images[file.name] = file.name
        elif suffix in _SUFFIXES and not file.name.name.startswith("."):
            texts.setdefault(key, {})[suffix] = file
    for key in texts:
        if key in images:
            yield _row(str(images[key]), texts[key], split)


def _row(image: str, texts: dict[str, _File], split: str | None) -> Row:
    """What the .json beside an image says, with the captions of the text if there is one."""
    fields: dict[str, Any] = {}
    where = ""
    if ".json" in texts:
        where = texts[".json"].where
        fields = parse_json(decoded(texts[".json"].data, where), where)
        if not isinstance(fields, dict):
            raise CaptionBotError(f"{where} is JSON, but no object: give one with the caption of its image.")
    if text := next((texts[suffix] for suffix in _TEXTS if suffix in texts), None):
        where = text.where
        lines = decoded(text.data, where).split("\n")
        fields = {"split": fields.get("split"), "captions": [line for line in lines if line.strip()]}
    return parse_row({"split": split, **{k: v for k, v in fields.items() if v is not None}}, where, image)
