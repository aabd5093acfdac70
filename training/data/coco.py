"""COCO's caption annotations (arXiv 1504.00325)."""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.images.formats import is_hidden
from training.data import Example
from training.data.files import begins, finder, image_path, read_json, split_by_name, split_in, told_apart

_HEAD = r'\s*\{.*"(images|annotations)"\s*:\s*\['
_NAMED = finder("captions_*.json", "annotations/captions_*.json", head=_HEAD)


def read_coco(path: Path, split: str | None = "val") -> list[Example]:
    """Examples of a `captions_*.json` in order of name, all of one split, or split by name without one.

    Ids may be numbers or text, in both lists alike or not; a file name may hold a folder. An image that is
    listed twice has the captions of both.
    """
    content = read_json(path)
    try:
        listed = [(_id(image["id"]), image_path(image["file_name"])) for image in content["images"]]
        said = [(_id(found["image_id"]), _texts(found["caption"])) for found in content["annotations"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise CaptionBotError(
            f"{path} is not in COCO's format (images with id and file_name, annotations with image_id "
            f"and caption): {shortened(repr(error))}."
        ) from error
    called = told_apart({place: None for _, place in listed})
    names: dict[int | str, str] = {}
    for number, place in listed:
        if names.setdefault(number, called[place]) != called[place]:
            raise CaptionBotError(
                f"{path} gives the id {shortened(number)} to '{shortened(names[number])}' and to "
                f"'{shortened(called[place])}': give each image an id of its own."
            )
    captions: dict[str, list[str]] = {name: [] for name in called.values()}
    ids: dict[str, int | str] = {}
    for number, name in names.items():
        ids.setdefault(name, number)
    if lost := {number: None for number, _ in said if number not in names}:
        raise CaptionBotError(
            f"{path} has captions of {len(lost)} images that it does not list, the first of the id "
            f"{shortened(next(iter(lost)))}: list them under images, or leave their captions out."
        )
    for number, texts in said:
        captions[names[number]] += texts
    splits = split_by_name(captions) if split is None else dict.fromkeys(captions, split)
    return [Example(name, tuple(captions[name]), splits[name], ids[name]) for name in sorted(captions)]


def find_coco(path: Path) -> list[Path]:
    """The files of a folder in COCO's form, or the given file: by their names, else by what is in them."""
    found = _NAMED(path)
    if found or path.is_file():
        return found
    for pattern in ("*.json", "annotations/*.json", "*/*.json"):
        if found := [file for file in sorted(path.glob(pattern)) if _has_captions(file)]:
            return found
    return []


def _has_captions(path: Path) -> bool:
    """Whether a file is in COCO's form and has captions, where its boxes and key points lie beside it."""
    if not path.is_file() or is_hidden(path.name) or not begins(path, _HEAD):
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(b'"caption"') >= 0


def _id(value: Any) -> int | str:
    """An id as a number where it is one, also as text or as 1.0; else as text. TypeError for what is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"an id is {shortened(value)!r}")
    return value


def _texts(value: Any) -> list[str]:
    """A caption, or a list of them."""
    texts = value if isinstance(value, list) else [value]
    return [text.strip() for text in texts]


def read_coco_splits(paths: Sequence[Path]) -> list[Example]:
    """Examples of `captions_train*.json` and `captions_val*.json` of one year, in order of name.

    The file's name tells the split, or where there are several its folder's; one that tells none, as people
    write their own, is split by name.
    """
    years = {match[0] for path in paths if (match := re.search(r"20\d\d", path.stem))}
    if len(years) > 1:
        raise CaptionBotError(
            f"{paths[0].parent} holds captions of {' and '.join(sorted(years))}, which share their photos: "
            "name one file, or keep each year in a folder of its own."
        )
    examples: list[Example] = []
    for path in paths:
        folder = [path.parent.name] * (len(paths) > 1)
        examples += read_coco(path, split_in(path.stem, *folder))
    return sorted(examples, key=lambda example: example.name)
