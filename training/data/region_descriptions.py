"""Visual Genome's region descriptions (arXiv 1602.07332) as captions of whole images."""

from __future__ import annotations

from pathlib import Path

from captionbot.errors import CaptionBotError, shortened
from training.data import Example
from training.data.files import read_json, split_by_name


def read_region_descriptions(path: Path, joined: int = 0) -> list[Example]:
    """Examples of `region_descriptions.json` in order of name, split by name.

    Each phrase is one caption of its image: about fifty an image, each of a part of it.
    joined: instead, one caption an image, its first so many phrases with commas between.
    """
    captions: dict[str, tuple[str, ...]] = {}
    numbers: dict[str, int] = {}
    try:
        for image in read_json(path):
            name = f"{image['id']}.jpg"
            phrases = tuple(" ".join(region["phrase"].split()) for region in image["regions"])
            captions[name] = (", ".join(phrases[:joined]),) if joined and phrases else phrases
            numbers[name] = image["id"]
    except (KeyError, TypeError, AttributeError) as error:
        raise CaptionBotError(
            f"{path} is not in the form of Visual Genome's region_descriptions.json (a list of images with "
            f"id and regions, regions with phrase): {shortened(repr(error))}."
        ) from error
    splits = split_by_name(captions)
    return [Example(name, captions[name], splits[name], numbers[name]) for name in sorted(captions)]
