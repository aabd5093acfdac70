"""COCO's caption annotations (arXiv 1504.00325)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from captionbot.errors import CaptionBotError
from training.data import Example
from training.data.files import read_json


def read_coco(path: Path, split: str = "val") -> list[Example]:
    """Examples of a `captions_*.json` in order of name, all of one split."""
    content = read_json(path)
    try:
        ids = {image["file_name"]: image["id"] for image in content["images"]}
        captions: dict[int, list[str]] = {number: [] for number in ids.values()}
        for annotation in content["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"].strip())
        return [Example(name, tuple(captions[ids[name]]), split, ids[name]) for name in sorted(ids)]
    except (KeyError, TypeError, AttributeError) as error:
        raise CaptionBotError(
            f"{path} is not in COCO's format (images with id and file_name, annotations with image_id "
            f"and caption): {error!r}."
        ) from error


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
        match = re.search("train|val|test", path.stem)
        examples += read_coco(path, match[0] if match else "val")
    return sorted(examples, key=lambda example: example.name)
