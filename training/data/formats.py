"""Every format of captions that is read, and the one way in: `load_dataset(path)`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from captionbot.errors import CaptionBotError, shortened
from training.data import Example
from training.data.coco import find_coco, read_coco_splits
from training.data.cs231n import read_cs231n
from training.data.files import finder, walk
from training.data.flickr import read_flickr
from training.data.karpathy import read_karpathy
from training.data.mixture import SUFFIX, read_mixture
from training.data.region_descriptions import read_region_descriptions
from training.data.sidecars import has_texts, read_shards, read_texts
from training.data.tables import TABLES, is_table, read_table, read_tables, to_examples


@dataclass(frozen=True)
class Format:
    """One way in which captions lie on disk.

    about: in a few words, for errors and help.
    find: its files in a folder, or the given file if it is one; none where the format is another.
    read: their examples, in order of name.
    """

    about: str
    find: Callable[[Path], list[Path]]
    read: Callable[[Sequence[Path]], list[Example]]


def load_dataset(path: str | Path, format: str = "auto") -> list[Example]:
    """The examples of a data set in order of name, with their splits.

    path: the folder that holds it, or its file of captions.
    format: a key of FORMATS, or "auto" to recognise the format by the files' names and beginnings.
    """
    path = Path(path)
    if format not in ("auto", *FORMATS):
        raise CaptionBotError(
            f"'{format}' is not a format of captions; choose auto or one of {', '.join(FORMATS)}."
        )
    if not path.exists():
        raise CaptionBotError(f"There is no data set at {path}: give its folder, or its file of captions.")
    for name in FORMATS if format == "auto" else [format]:
        form = FORMATS[name]
        if files := [path] if path.is_file() and format != "auto" else form.find(path):
            if examples := form.read(files):
                return _checked(examples, path)
            raise CaptionBotError(f"{path} holds no captions, although it looks like the format {name}.")
    looked_for = "; ".join(f"{name}: {FORMATS[name].about}" for name in FORMATS if format in ("auto", name))
    raise CaptionBotError(f"{path} holds no captions in a format that is looked for ({looked_for}).")


def _checked(examples: list[Example], path: Path) -> list[Example]:
    """The examples, once it is sure that no two are of one name, whose captions would be mixed up."""
    for one, other in pairwise(examples):
        if one.name == other.name:
            raise CaptionBotError(
                f"{path} has captions of '{shortened(one.name)}' in {one.split} and again in {other.split}; "
                "captions go by file name, so name each image once."
            )
    return examples


def _one(read: Callable[[Path], list[Example]]) -> Callable[[Sequence[Path]], list[Example]]:
    """A reader of one file as a reader of all that were found."""

    def read_one(paths: Sequence[Path]) -> list[Example]:
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise CaptionBotError(f"{paths[0].parent} holds several data sets; name one of {names}.")
        return read(paths[0])

    return read_one


def _find_shards(path: Path) -> list[Path]:
    shards = walk(path) if path.is_dir() else [path]
    return [shard for shard in shards if shard.suffix == ".tar" and has_texts(shard)]


def _find_folder(path: Path) -> list[Path]:
    """The table in the folder, else those below, else the folder itself if texts lie beside its images."""
    if path.is_file():
        return [path] if is_table(path) else []
    tables = [path / name for name in TABLES if (path / name).is_file()]
    if not tables:
        tables = [file for file in walk(path) if file.name in TABLES]
    return tables or ([path] if has_texts(path) else [])


def _read_folder(paths: Sequence[Path]) -> list[Example]:
    if len({path.parent for path in paths}) < len(paths):
        return _one(read_texts)(paths)
    if len(paths) > 1:
        return read_tables(paths, Path(os.path.commonpath([path.parent for path in paths])))
    return read_texts(paths[0]) if paths[0].is_dir() else to_examples(read_table(paths[0]), paths[0])


_PHRASES = finder("region_descriptions.json", head=r'\s*\[.*"phrase"\s*:')

FORMATS = {
    "mixture": Format(
        f"NAME{SUFFIX}, a list of data sets",
        lambda path: [path] if path.name.endswith(SUFFIX) else [],
        _one(partial(read_mixture, load=load_dataset)),
    ),
    "karpathy": Format(
        "dataset_*.json of Karpathy's Flickr8k, Flickr30k and COCO",
        finder("dataset*.json", head=r'\s*\{.*"sentences"\s*:'),
        _one(read_karpathy),
    ),
    "coco": Format(
        "captions_train2014.json, captions_val2017.json and the like, or one's own in that form",
        find_coco,
        read_coco_splits,
    ),
    "flickr": Format(
        "Flickr8k.token.txt, results_20130124.token, results.csv or captions.txt, and lists of the splits",
        finder(
            *("Flickr8k.token.txt", "*.token.txt", "*.token", "results.csv", "*/results.csv", "captions.txt"),
            head=r"[^\n]*#\d+\t|image(_name)?\s*[,|]",
        ),
        _one(read_flickr),
    ),
    "visual-genome": Format(
        "region_descriptions.json, every phrase a caption", _PHRASES, _one(read_region_descriptions)
    ),
    "visual-genome-joined": Format(
        "region_descriptions.json, the first three phrases one caption",
        _PHRASES,
        _one(partial(read_region_descriptions, joined=3)),
    ),
    "cs231n": Format(
        "coco2014_captions.h5 with what lies beside it",
        finder("coco2014_captions.h5", "*/coco2014_captions.h5", head="\N{REPLACEMENT CHARACTER}HDF"),
        _one(read_cs231n),
    ),
    "tar": Format(".tar shards of key.jpg with key.txt or key.json", _find_shards, read_shards),
    "folder": Format(
        f"{', '.join(TABLES)}, also one in each split's folder, or .txt, .caption or .json beside each image",
        _find_folder,
        _read_folder,
    ),
}
"""What `format` may be. Where a folder holds several, "auto" takes the first."""
