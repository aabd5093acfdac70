"""Captions as tables: CSV in its many dialects, JSON lines and JSON, one row a caption or an image."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from captionbot.errors import CaptionBotError, shortened
from training.data import Example
from training.data.files import (
    beginning,
    image_path,
    parse_json,
    read_json,
    read_text,
    split_by_name,
    split_in,
    split_name,
)

COLUMNS = {
    "image": ("image", "file_name", "filename", "image_name", "file", "name"),
    "caption": ("caption", "captions", "text", "comment", "sentence"),
    "split": ("split",),
}

TABLES = ("captions.csv", "captions.jsonl", "captions.json", "metadata.csv", "metadata.jsonl")

_HEADER = 1 << 16  # bytes in which a header ends
_DELIMITERS = ",|;\t"
_LOST_BAR = re.compile(r"\s*\d+\s+(\S.*)")


class Row(NamedTuple):
    """What one row says.

    image: without folders.
    split, folder: of the image; None where the table does not tell.
    """

    image: str
    captions: tuple[str, ...]
    split: str | None
    folder: str | None = None


def read_table(path: Path) -> list[Row]:
    """The rows of a .jsonl or .json file, or of a CSV file under any other name."""
    if path.suffix.lower() == ".jsonl":
        return list(_json_lines(path))
    if path.suffix.lower() == ".json":
        return list(_json_rows(path))
    return list(_csv_rows(path))


def is_table(path: Path) -> bool:
    """Whether `read_table` should try a file of this name and beginning."""
    return path.suffix.lower() in (".json", ".jsonl") or has_csv_header(path)


def read_tables(paths: Sequence[Path], root: Path) -> list[Example]:
    """Examples of tables that lie in folders of their own, as one for each split, in order of name.

    The names of the folders below `root` tell the split where the rows do not.
    """
    rows: list[Row] = []
    for path in paths:
        folder = path.parent.relative_to(root)
        split = split_in(*folder.parts)
        for row in read_table(path):
            place = PurePosixPath(folder.as_posix()) / (row.folder or ".")
            rows.append(row._replace(split=row.split or split, folder=str(place)))
    return to_examples(rows, root)


def has_csv_header(path: Path) -> bool:
    """Whether a file begins with a line that names a column of images and one of captions."""
    return _dialect(beginning(path, _HEADER).partition("\n")[0]) is not None


def to_examples(rows: Iterable[Row], path: Path, splits: Mapping[str, str] | None = None) -> list[Example]:
    """Rows as examples in order of name, the captions of each in order of the rows.

    splits: split by name, from lists beside the table; what they do not name is left out. Without
        them the table's own splits count, and without those `split_by_name`.
    """
    rows = list(rows)
    folders: dict[str, set[str]] = {}
    for row in rows:
        folders.setdefault(row.image, set()).update([] if row.folder is None else [row.folder])
    captions: dict[str, list[str]] = {}
    told: dict[str, str] = {}
    lie: dict[str, str] = {}
    for row in rows:
        name = _name(row, sorted(folders[row.image]), path)
        captions.setdefault(name, []).extend(row.captions)
        lie[name] = row.folder or lie.get(name, ".")
        if row.split is not None and told.setdefault(name, row.split) != row.split:
            raise CaptionBotError(
                f"{path} puts '{shortened(name)}' into {told[name]} and {row.split}: an image has one split."
            )
    if splits is None:
        splits = told or _by_folder(lie) or split_by_name(captions)
        if lost := next((name for name in captions if name not in splits), None):
            raise CaptionBotError(
                f"{path} gives a split for some images and none for '{shortened(lost)}': give one for all, "
                "or for none."
            )
    return [Example(name, tuple(captions[name]), splits[name]) for name in sorted(captions) if name in splits]


def _name(row: Row, folders: Sequence[str], path: Path) -> str:
    """What an image is called of which there are some of its name, in so many folders."""
    if len(folders) < 2:
        return row.image
    if row.folder is None:
        raise CaptionBotError(
            f"{path} has captions of a '{shortened(row.image)}' that may be the one in "
            f"{shortened(folders[0])} or in {shortened(folders[1])}: name its folder in every row."
        )
    return str(PurePosixPath(row.folder) / row.image)


def _by_folder(folders: Mapping[str, str]) -> dict[str, str]:
    """Splits by the names of the images' folders, where these tell it for all of them; else nothing."""
    found = {name: split_in(*PurePosixPath(folder).parts) for name, folder in folders.items()}
    return {name: split for name, split in found.items() if split} if all(found.values()) else {}


def parse_row(fields: Any, where: str, image: str | None = None) -> Row:
    """The row that a JSON object or the named cells of a CSV file make.

    where: how an error calls the place.
    image: the image's name, where the object need not tell it.
    """
    try:
        known = {str(key).strip().lower(): value for key, value in fields.items() if value is not None}
        found = {c: next((known[n] for n in names if n in known), "") for c, names in COLUMNS.items()}
        place = image_path(image or found["image"])
        captions = [found["caption"]] if isinstance(found["caption"], str) else found["caption"]
        split = found["split"].strip() or None
        folder = str(place.parent) if image or len(place.parts) > 1 else None
        row = Row(place.name, tuple(caption.strip() for caption in captions), split, folder)
    except (AttributeError, TypeError, ValueError):  # ValueError: an address that is none
        row = Row("", (), None)
    if not row.image or not any(name in known for name in COLUMNS["caption"]):
        raise CaptionBotError(
            f"{where} should name an image ({', '.join(COLUMNS['image'])}) and its caption or captions "
            f"({', '.join(COLUMNS['caption'])}) as text, and may name its split."
        )
    try:
        return row._replace(split=row.split and split_name(row.split))
    except CaptionBotError as error:
        raise CaptionBotError(f"{where}: {error}") from None


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            where = f"Line {number} of {path}"
            yield parse_row(parse_json(line, f"{where} is {line[:60]!r}, which"), where)


def _json_rows(path: Path) -> Iterator[Row]:
    """A list of objects, or one object of captions by image name."""
    content = read_json(path)
    if isinstance(content, dict):
        content = [{"image": name, "captions": captions} for name, captions in content.items()]
    if not isinstance(content, list):
        raise CaptionBotError(
            f"{path} should be a list of objects with image and caption, or an object of captions by image."
        )
    for number, fields in enumerate(content, 1):
        yield parse_row(fields, f"Entry {number} of {path}")


def _csv_rows(path: Path) -> Iterator[Row]:
    """Commas, semicolons, tabs or bars; where the caption comes last it may hold them without quotes."""
    lines = io.StringIO(read_text(path))
    dialect = _dialect(lines.readline())
    if dialect is None:
        raise CaptionBotError(
            f"The first line of {path} should name its columns: one of {', '.join(COLUMNS['image'])} and one "
            f"of {', '.join(COLUMNS['caption'])}, as in 'image,caption'."
        )
    delimiter, columns = dialect
    # Flickr30k's file with bars was made without quoting: a quote in it belongs to the caption.
    quoting: Any = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                fields = dict(zip(columns, _fit(cells, columns, delimiter), strict=False))
                yield parse_row(fields, f"Line {reader.line_num + 1} of {path}")
    except csv.Error as error:
        raise CaptionBotError(
            f"Line {reader.line_num + 1} of {path} is not CSV ({error}): put captions that begin with a "
            "quote in quotes, and write quotes inside them twice."
        ) from error


def _dialect(header: str) -> tuple[str, list[str]] | None:
    """The delimiter and the columns, if the line is a header."""
    for delimiter in _DELIMITERS:
        columns = [cell.strip().strip('"').lower() for cell in header.split(delimiter)]
        if all(any(name in columns for name in COLUMNS[needed]) for needed in ("image", "caption")):
            return delimiter, columns
    return None


def _fit(cells: list[str], columns: list[str], delimiter: str) -> list[str]:
    """The cells of a row whose caption was cut at its own delimiters, or lost the one in front of it."""
    if columns[-1] in COLUMNS["caption"]:
        if len(cells) > len(columns):
            return [*cells[: len(columns) - 1], delimiter.join(cells[len(columns) - 1 :])]
        # results.csv of Flickr30k: "2199200615.jpg| 4   A dog runs across the grass ."
        if len(cells) == len(columns) - 1 == 2 and (lost := _LOST_BAR.fullmatch(cells[1])):
            return [cells[0], "", lost[1]]
    return cells
