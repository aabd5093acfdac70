"""Flickr8k (Hodosh et al., 2013) and Flickr30k (Young et al., 2014), in the forms they go about in."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from captionbot.errors import CaptionBotError, shortened
from training.data import Example
from training.data.files import decoded, image_path, parse_json, read_text, split_by_name
from training.data.tables import has_csv_header, read_table, to_examples

SPLIT_LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}


def read_flickr(path: Path) -> list[Example]:
    """Examples of a token file, of `results.csv` or of `captions.txt`, in order of name.

    Lists of the splits beside it count, Flickr8k's own or `train.txt`, `val.txt` and `test.txt` of
    Flickr30k Entities; what they do not name is left out. Without lists, see `split_by_name`.
    """
    lists = _split_lists(path.parent)
    if not has_csv_header(path):
        return read_token_file(path, lists)
    rows = read_table(path)
    names = {Path(row.image).stem: row.image for row in rows}
    return to_examples(rows, path, _listed(lists, names, path) if lists else None)


def read_token_file(path: Path, split_lists: dict[str, Path]) -> list[Example]:
    """Examples of a file with lines `name.jpg#0<tab>caption` and a list of names for each split.

    Without lists, `split_by_name` decides.
    """
    captions: dict[str, dict[int, str]] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, hash_sign, index = key.rpartition("#")
        if not (tab and hash_sign and index.isdecimal()):
            raise CaptionBotError(
                f"Line {number} of {path} is {line[:60]!r}; it should be name.jpg#0, a tab and a caption."
            )
        name = image_path(name).name
        # One photo of the whole Flickr8k goes by "2258277193_586949ec62.jpg.1" in its token file.
        name = re.sub(r"(\.jpg)\.\d+$", r"\1", name)
        captions.setdefault(name, {})[int(index)] = caption.strip()
    names = {Path(name).stem: name for name in captions}
    splits = _listed(split_lists, names, path) if split_lists else split_by_name(captions)
    return [
        Example(name, tuple(captions[name][i] for i in sorted(captions[name])), splits[name])
        for name in sorted(splits)
    ]


def read_text_captions(path: str | Path) -> list[str]:
    """All captions of a file with lines {"image": ..., "captions": [...]}, gzipped or not, in order."""
    path = Path(path)
    if not path.is_file():
        raise CaptionBotError(f"There are no captions at {path}: give a .jsonl or .jsonl.gz file.")
    captions: list[str] = []
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    captions += _captions(line, f"Line {number} of {path}")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CaptionBotError(f"{path} is not a whole .gz file ({error}): download it again.") from error
    if not captions:
        raise CaptionBotError(f"{path} holds no captions: give lines with an object with captions.")
    return captions


def _captions(line: bytes, where: str) -> list[str]:
    try:
        captions = parse_json(decoded(line, where), where)["captions"]
        captions = [captions] if isinstance(captions, str) else list(captions)
        if not all(isinstance(caption, str) for caption in captions):
            raise TypeError
    except (KeyError, TypeError) as error:
        raise CaptionBotError(f"{where} is {line[:60]!r}; it should be an object with captions.") from error
    return captions


def _split_lists(folder: Path) -> dict[str, Path]:
    """The lists of Flickr8k's splits in a folder, else those of Flickr30k Entities."""
    entities = {split: f"{split}.txt" for split in SPLIT_LISTS}
    for names in (SPLIT_LISTS, entities):
        lists = {split: folder / name for split, name in names.items() if (folder / name).is_file()}
        if lists:
            return lists
    return {}


def _listed(split_lists: dict[str, Path], names: dict[str, str], path: Path) -> dict[str, str]:
    """Splits by name; the lists give names with or without `.jpg`, `names` holds them by their stem."""
    splits = {}
    for split, split_list in split_lists.items():
        for listed in read_text(split_list).split():
            name = names.get(listed.removesuffix(".jpg"))
            if name is None:
                raise CaptionBotError(
                    f"{split_list} names '{shortened(listed)}', of which {path} has no caption."
                )
            splits[name] = split
    return splits
