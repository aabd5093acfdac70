"""Captions of a data set's images, as files: ours, and those of other projects."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from training.data import Example
from training.data.files import image_path, nearest, read_text
from training.data.formats import load_dataset

_IMAGE_KEYS = ("image_id", "image", "file_name", "filename", "id")
_CAPTION_KEYS = ("caption", "captions", "text")


def load_split(path: Path, form: str, split: str) -> tuple[list[Example], list[Example]]:
    """The examples of one split of annotations, or of all, and those of its training split beside, if any.

    Images without captions, as COCO's form may list them, are left out: nothing scores what is said of them.
    """
    examples = [example for example in load_dataset(path, form) if example.captions]
    if split == "all":
        return examples, []
    chosen = [example for example in examples if example.split == split]
    if not chosen:
        splits = ", ".join(sorted({example.split for example in examples}))
        raise CaptionBotError(f"{path} has no split '{split}'; choose one of {splits}, or all.")
    return chosen, [example for example in examples if example.split == "train"]


def read_predictions(path: str | Path) -> dict[str, str]:
    """Captions by image, whatever the file calls the images: by number, by name, or by path.

    Reads COCO's results format, [{"image_id": ..., "caption": "..."}, ...], also with `image`, `file_name`
    or `id` for the image and `text` or `captions` (the first counts) for the caption; {image: caption};
    and a line of JSON an image, as `python -m captionbot caption --format jsonl` writes them, where
    images that could not be captioned are passed over. Raises CaptionBotError for anything else, and for
    an image with two captions.
    """
    captions: dict[str, str] = {}
    for image, caption in _entries(Path(path)):
        if image in captions:
            raise CaptionBotError(
                f"{path} has two captions of image '{shortened(image)}'; keep one for each image."
            )
        captions[image] = caption
    return captions


def captions_of(
    examples: Sequence[Example], predictions: Mapping[str, str], subset: bool = False
) -> dict[str, str]:
    """Captions by the examples' names, in their order; with `subset` only of images that have one.

    Raises CaptionBotError where images of two folders could be the one that is asked for.
    """
    by_name: dict[str, list[str]] = {}
    for image in predictions:  # some write whole paths
        by_name.setdefault(_alike(image_path(image).name), []).append(image)
    captions: dict[str, str] = {}
    for example in examples:
        name = shortened(example.name)
        file = PurePosixPath(example.name)
        calls = [file.name, file.stem]
        if example.image_id is not None:
            calls.insert(0, str(example.image_id))
        found = next((by_name[call] for call in map(_alike, calls) if call in by_name), [])
        if len(found) > 1:  # a folder may tell which is meant
            found = nearest(example.name, found)
        if len(found) > 1:
            raise CaptionBotError(
                f"The predictions have captions of {len(found)} images that '{name}' may be, such as "
                f"{shortened(found[0])} and {shortened(found[1])}: keep one of them."
            )
        if found:
            captions[example.name] = predictions[found[0]]
        elif not subset:
            raise CaptionBotError(
                f"The predictions have no caption of '{name}'; give one for every image of the split, or "
                "score only those that have one with --subset."
            )
    if not captions:
        raise CaptionBotError(
            f"The predictions have no caption of any of the {len(examples)} images, such as "
            f"'{shortened(examples[0].name)}'; check that they are of the same data set and split."
        )
    return captions


def write_predictions(path: Path, examples: Iterable[Example], captions: Mapping[str, str]) -> None:
    """COCO's results format, images by number where the data set has such, else by name."""
    entries = [
        {
            "image_id": example.name if example.image_id is None else example.image_id,
            "caption": captions[example.name],
        }
        for example in examples
        if example.name in captions
    ]
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")  # half an emoji stays JSON's escape


def _alike(name: str) -> str:
    """A name as macOS and other systems both write it."""
    return unicodedata.normalize("NFC", name)


def _entries(path: Path) -> list[tuple[str, str]]:
    text = read_text(path)
    try:
        content = _parse(text)
        if isinstance(content, dict):
            return [(image, _caption(caption)) for image, caption in content.items()]
        return [
            (str(_first(entry, _IMAGE_KEYS)), _caption(_first(entry, _CAPTION_KEYS)))
            for entry in content
            if "error" not in entry
        ]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CaptionBotError(
            f"{path} is not a file of captions: give COCO's results format, a JSON list of objects with "
            "image_id and caption, or an object of captions by image, or a line of JSON an image "
            f"({shortened(repr(error))})."
        ) from error


def _parse(text: str) -> Any:
    """JSON, or lines of JSON as a list; one line alone is an entry if it has an entry's keys."""
    try:
        content = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    alone = isinstance(content, dict) and any(key in content for key in _IMAGE_KEYS)
    return [content] if alone else content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. ValueError where it has a key twice, of which `json` would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"'{shortened(twice)}' is there twice")
    return found


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    for key in keys:
        if key in entry:
            return entry[key]
    raise KeyError(f"none of {', '.join(keys)}")


def _caption(value: Any) -> str:
    """A caption that is text, or the first of a list, each text or an object with text or caption."""
    if isinstance(value, list):
        value = value[0]
    if isinstance(value, dict):
        value = _first(value, _CAPTION_KEYS)
    if not isinstance(value, str):
        raise TypeError(f"'{shortened(value)}' is not a caption")
    return value
