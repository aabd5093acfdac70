"""COCO's caption annotations (arXiv 1504.00325), and files of results in its format."""

from __future__ import annotations

import json
from pathlib import Path

from captionbot.errors import CaptionBotError
from training.data import Example


def read_coco(path: str | Path, split: str = "val") -> tuple[list[Example], dict[str, int]]:
    """Examples of a `captions_*.json` in order of name, and the numbers that COCO calls their images by."""
    try:
        content = json.loads(Path(path).read_bytes())
        ids = {image["file_name"]: image["id"] for image in content["images"]}
        captions: dict[int, list[str]] = {number: [] for number in ids.values()}
        for annotation in content["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"].strip())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptionBotError(
            f"{path} is not in COCO's format (images with id and file_name, annotations with image_id "
            f"and caption): {error!r}."
        ) from error
    return [Example(name, tuple(captions[ids[name]]), split) for name in sorted(ids)], ids


def read_results(path: str | Path) -> dict[str, str]:
    """Captions by image from COCO's results format: [{"image_id": ..., "caption": "..."}, ...]."""
    try:
        return {str(entry["image_id"]): entry["caption"] for entry in json.loads(Path(path).read_bytes())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptionBotError(
            f"{path} is not in COCO's results format, a list of objects with image_id and caption: {error!r}."
        ) from error
