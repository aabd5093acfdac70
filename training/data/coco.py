"""COCO's caption annotations (arXiv 1504.00325)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from training.data import Example
from training.data.files import image_path, read_json, split_in


def read_coco(path: Path, split: str = "val") -> list[Example]:
    """Examples of a `captions_*.json` in order of name, all of one split.

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
    names: dict[int | str, str] = {}
    places: dict[str, str] = {}
    for number, place in listed:
        if names.setdefault(number, place.name) != place.name:
            raise CaptionBotError(
                f"{path} gives the id {shortened(number)} to '{shortened(names[number])}' and to "
                f"'{shortened(place.name)}': give each image an id of its own."
            )
        if places.setdefault(place.name, str(place.parent)) != str(place.parent):
            raise CaptionBotError(
                f"{path} lists two images called '{shortened(place.name)}', in "
                f"{shortened(places[place.name])} and {shortened(place.parent)}; captions go by file "
                "name, so rename one."
            )
    captions: dict[str, list[str]] = {name: [] for name in places}
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
    return [Example(name, tuple(captions[name]), split, ids[name]) for name in sorted(captions)]


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

    The file's name tells the split; one that tells none, as people write their own, is all "val".
    """
    years = {match[0] for path in paths if (match := re.search(r"20\d\d", path.stem))}
    if len(years) > 1:
        raise CaptionBotError(
            f"{paths[0].parent} holds captions of {' and '.join(sorted(years))}, which share their photos: "
            "name one file, or keep each year in a folder of its own."
        )
    examples: list[Example] = []
    for path in paths:
        examples += read_coco(path, split_in(path.stem) or "val")
    return sorted(examples, key=lambda example: example.name)
