"""The form that Karpathy and Fei-Fei gave Flickr8k, Flickr30k and COCO (arXiv 1412.2306)."""

from __future__ import annotations

from pathlib import Path

from captionbot.errors import CaptionBotError, shortened
from training.data import Example
from training.data.files import image_path, read_json, split_name


def read_karpathy(path: Path) -> list[Example]:
    """Examples of a `dataset_*.json` in order of name; `restval` of COCO belongs to train."""
    try:
        examples = [
            Example(
                image_path(image["filename"]).name,
                tuple(sentence["raw"].strip() for sentence in image["sentences"]),
                split_name(image["split"]),
                image.get("cocoid"),
            )
            for image in read_json(path)["images"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise CaptionBotError(
            f"{path} is not in the form of Karpathy's data sets (images with filename, split and sentences): "
            f"{shortened(repr(error))}."
        ) from error
    return sorted(examples, key=lambda example: example.name)
