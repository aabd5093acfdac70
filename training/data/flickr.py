"""Flickr8k (Hodosh et al., 2013), in the two forms it goes about in, and the text of Flickr30k."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from captionbot.errors import CaptionBotError
from training.data import Example

SPLIT_LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}


def load_flickr8k(folder: str | Path) -> list[Example]:
    """The examples of Flickr8k in order of name, captions in the order of their numbers.

    Reads Karpathy's `dataset_flickr8k.json` if it is there, else the original `Flickr8k.token.txt`
    with the lists of its splits; photos that no list names are left out, as the data set's authors do.
    """
    folder = Path(folder)
    karpathy, token_file = folder / "dataset_flickr8k.json", folder / "Flickr8k.token.txt"
    if karpathy.is_file():
        return read_karpathy(karpathy)
    if token_file.is_file():
        lists = {split: folder / name for split, name in SPLIT_LISTS.items() if (folder / name).is_file()}
        if not lists:
            raise CaptionBotError(
                f"{token_file} needs the lists of its splits beside it: {', '.join(SPLIT_LISTS.values())}."
            )
        return read_token_file(token_file, lists)
    raise CaptionBotError(
        f"There is no Flickr8k in {folder}: it should hold {karpathy.name}, or {token_file.name} with "
        f"{SPLIT_LISTS['train']} and {SPLIT_LISTS['val']}."
    )


def read_karpathy(path: Path) -> list[Example]:
    """Examples of a data set in the form of Karpathy and Fei-Fei (arXiv 1412.2306), in order of name."""
    try:
        examples = [
            Example(
                image["filename"],
                tuple(sentence["raw"].strip() for sentence in image["sentences"]),
                image["split"],
            )
            for image in json.loads(path.read_bytes())["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise CaptionBotError(
            f"{path} is not in the form of Karpathy's data sets (images with filename, split and sentences): "
            f"{error!r}."
        ) from error
    return sorted(examples, key=lambda example: example.name)


def read_token_file(path: Path, split_lists: dict[str, Path]) -> list[Example]:
    """Examples of a file with lines `name.jpg#0<tab>caption` and a list of names for each split."""
    captions: dict[str, dict[int, str]] = {}
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, hash_sign, index = key.rpartition("#")
        if not (tab and hash_sign and index.isdecimal()):
            raise CaptionBotError(
                f"Line {number} of {path} is {line[:60]!r}; it should be name.jpg#0, a tab and a caption."
            )
        captions.setdefault(name, {})[int(index)] = caption.strip()
    examples = []
    for split, names in split_lists.items():
        for name in _read(names).split():
            if name not in captions:
                raise CaptionBotError(f"{names} names '{name}', of which {path} has no caption.")
            examples.append(Example(name, tuple(captions[name][i] for i in sorted(captions[name])), split))
    return sorted(examples, key=lambda example: example.name)


def read_text_captions(path: str | Path) -> list[str]:
    """All captions of a file with lines {"image": ..., "captions": [...]}, gzipped or not, in order."""
    path = Path(path)
    if not path.is_file():
        raise CaptionBotError(f"There are no captions at {path}: give a .jsonl or .jsonl.gz file.")
    captions: list[str] = []
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                captions += json.loads(line)["captions"]
            except (ValueError, KeyError, TypeError) as error:
                raise CaptionBotError(
                    f"Line {number} of {path} is {line[:60]!r}; it should be an object with captions."
                ) from error
    return captions


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CaptionBotError(f"{path} is not text in UTF-8 ({error.reason}); convert it first.") from error
