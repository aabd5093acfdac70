"""A review of many photos' alt texts: what was said of each, what a person made of it, and its file.

A review file is a table (.csv) or records (.jsonl), one photo each, that people edit by hand or in a page
and that is read back. It grows by one batch at a time, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from captionbot.bulk.records import Result, as_written, record
from captionbot.errors import CaptionBotError, shortened
from captionbot.files import aside, hold, utf8
from captionbot.text.alt_text import LIMIT, alt_text
from captionbot.types import Caption

TO_REVIEW, ACCEPTED, FAILED = STATES = ("to review", "accepted", "error")
BANDS = ("unknown", "unsure", "sure")  # the ones to look at first
COLUMNS = ("image", "alt", "state", "confidence", "band", "reason", "caption", "error", "model")
SUFFIXES = (".csv", ".jsonl")
MAX_ALT = 2_000  # characters that a person may write; IPTC's descriptions have no more
_MAX_FIELD = 10_000_000  # bytes of a record: captions with all their words
_DELIMITERS = ",;\t"  # what spreadsheets write, by their language


@dataclass(frozen=True)
class Entry:
    """One photo of a review.

    image: what it is called.
    alt: its alt text as it is now; caption: as it was proposed.
    accepted: whether a person said that it is right; one that a person wrote is right too.
    confidence: how likely the caption is right, or how likely its words are of a captioner that does not
        judge itself, 0..1; None where nobody knows.
    band, reason: of the caption's judgement, "" of none.
    error: why there is no caption.
    record: as of `records.record`, {} where it is not known.
    """

    image: str
    alt: str = ""
    accepted: bool = False
    caption: str = ""
    confidence: float | None = None
    band: str = ""
    reason: str = ""
    error: str = ""
    model: str = ""
    record: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def edited(self) -> bool:
        return not self.error and self.alt != self.caption

    @property
    def done(self) -> bool:
        """Whether a person is through with it."""
        return not self.error and (self.accepted or self.edited)

    @property
    def state(self) -> str:
        return FAILED if self.error else ACCEPTED if self.done else TO_REVIEW

    def with_alt(self, alt: str, accepted: bool) -> Entry:
        return replace(self, alt=" ".join(alt.split())[:MAX_ALT], accepted=accepted)


def entry_of(result: Result, model: str, limit: int = LIMIT) -> Entry:
    """The entry of what a captioner said. limit: characters of its alt text."""
    name, found = result
    if isinstance(found, CaptionBotError):
        return Entry(as_written(name), error=str(found))
    best = found.captions[0]
    said = alt_text(best.text, limit)
    confidence, band, reason = judged(best)
    fields = record(as_written(name), model, found)
    return Entry(as_written(name), said, False, said, confidence, band, reason, "", model, fields)


def judged(caption: Caption) -> tuple[float, str, str]:
    """How likely it is right, its band, and why."""
    judgement = caption.judgement
    if judgement is None:
        return float(caption.confidence), "", ""
    return judgement.probability, judgement.band, judgement.reason


def queue(entries: Sequence[Entry]) -> list[int]:
    """The places of entries in the order in which a person looks at them: the least sure first.

    Those without a caption come last.
    """

    def sureness(place: int) -> tuple[bool, int, float]:
        entry = entries[place]
        band = BANDS.index(entry.band) if entry.band in BANDS else len(BANDS)
        return bool(entry.error), band, 0.0 if entry.confidence is None else entry.confidence

    return sorted(range(len(entries)), key=sureness)


def counts(entries: Iterable[Entry]) -> dict[str, int]:
    """How many entries there are of each of `STATES`."""
    states = [entry.state for entry in entries]
    return {state: states.count(state) for state in STATES}


def resumed(entries: Iterable[Entry], known: Mapping[str, Entry]) -> list[Entry]:
    """Entries, with what a person made of them in an earlier review."""
    return [known.get(entry.image, entry) for entry in entries]


# -- files


def csv_bytes(entries: Iterable[Entry]) -> bytes:
    return utf8(_rows([COLUMNS, *([_cells(entry)[name] for name in COLUMNS] for entry in entries)]))


def jsonl_bytes(entries: Iterable[Entry]) -> bytes:
    return utf8("".join(f"{json.dumps(_fields(entry), ensure_ascii=False)}\n" for entry in entries))


def parse(data: bytes, name: str) -> list[Entry]:
    """The entries of a review file's bytes, or of what `captionbot caption` wrote; of several rows or lines
    of one image the last counts, of several captions the best.

    name: of the file, which ends with .csv or .jsonl. A torn end, as of a kill, is left out.
    Raises CaptionBotError, naming the line, for anything else.
    """
    if not name.lower().endswith(SUFFIXES):
        raise CaptionBotError(
            f"{shortened(name)} is no review file: give one that ends with {' or '.join(SUFFIXES)}."
        )
    return list(_parsed(data, name).entries.values())


@dataclass
class _Parsed:
    """entries by name; lines: of each, as they stand in the file; columns, delimiter: of a table."""

    entries: dict[str, Entry]
    lines: dict[str, Any]
    columns: Sequence[str] = COLUMNS
    delimiter: str = ","


def _parsed(data: bytes, name: str) -> _Parsed:
    try:
        text = data.rstrip(b"\0").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CaptionBotError(
            f"{shortened(name)} is not in UTF-8: save it as “CSV UTF-8” in the spreadsheet, and try again."
        ) from None
    return _parse_csv(text, name) if name.lower().endswith(".csv") else _parse_jsonl(text, name)


def _parse_csv(text: str, name: str) -> _Parsed:
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    found = _Parsed({}, {}, next(rows, list(COLUMNS)), delimiter)
    columns = [column.strip().lower() for column in found.columns]
    if "image" not in columns or not {"alt", "caption"} & set(columns):
        raise _wrong(name, "its first row has no column “image”, or neither “alt” nor “caption”")
    try:
        for row in rows:
            if len(row) < len(columns) and not text.endswith("\n") and rows.line_num > text.count("\n"):
                break  # torn
            fields = dict(zip(columns, row, strict=False))
            if fields.get("image") and fields.get("rank", "1") in ("", "1"):
                entry = _entry(fields, {}, name, f"line {rows.line_num}")
                found.entries[entry.image], found.lines[entry.image] = entry, row
    except csv.Error as error:
        raise _wrong(name, f"line {rows.line_num} is no row of a table ({error})") from None
    return found


def _parse_jsonl(text: str, name: str) -> _Parsed:
    found = _Parsed({}, {})
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line) if len(line) <= _MAX_FIELD else None
            if not isinstance(fields, dict) or not isinstance(fields.get("image"), str):
                raise ValueError
            captions = fields.get("captions") or [{}]
            best = captions[0]
            judgement = best.get("judgement") or {}
            given = {
                "confidence": judgement.get("probability"),
                "band": judgement.get("band"),
                "reason": judgement.get("reason"),
                "caption": best.get("text"),
                **fields,
            }
            entry = _entry(given, fields, name, f"line {number}")
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            if number == len(lines):  # without a line break: torn
                break
            raise _wrong(name, f"line {number} is no record of a photo") from None
        found.entries[entry.image], found.lines[entry.image] = entry, fields
    return found


def _entry(fields: Mapping[str, Any], found: Mapping[str, Any], name: str, where: str) -> Entry:
    def text(key: str) -> str:
        value = fields.get(key)
        return " ".join(value.split()) if isinstance(value, str) else ""

    image, error = as_written(str(fields["image"])), text("error")
    if error:
        return Entry(image, error=error, model=text("model"))
    reviewed = fields.get("alt") is not None
    said = text("caption") if reviewed else alt_text(text("caption"))
    alt = text("alt") if reviewed else said
    if len(alt) > MAX_ALT:
        raise _wrong(name, f"{where} has an alt text of {len(alt):,} characters, where {MAX_ALT:,} fit")
    return Entry(
        image,
        alt,
        text("state").lower() == ACCEPTED,
        said,
        _number(fields.get("confidence")),
        band if (band := text("band").lower()) in BANDS else "",
        text("reason"),
        "",
        text("model"),
        {key: found[key] for key in ("image", "model", "captions") if key in found},
    )


def _number(value: Any) -> float | None:
    """Of a cell, in which a spreadsheet may have written a comma."""
    try:
        number = float(str(value).replace(",", "."))
    except ValueError:
        return None
    return number if 0 <= number <= 1 else None


def _wrong(name: str, why: str) -> CaptionBotError:
    return CaptionBotError(f"{shortened(name)} is no review file ({why}): mend it, or name another.")


def _cells(entry: Entry) -> dict[str, str]:
    return {
        "image": entry.image,
        "alt": entry.alt,
        "state": entry.state,
        "confidence": "" if entry.confidence is None else f"{entry.confidence:.4f}",
        "band": entry.band,
        "reason": entry.reason,
        "caption": entry.caption,
        "error": entry.error,
        "model": entry.model,
    }


def _fields(entry: Entry) -> dict[str, Any]:
    """The full record of the captioner, and what a person made of it."""
    if entry.error:
        return {"image": entry.image, "error": entry.error}
    said = {
        "alt": entry.alt,
        "state": entry.state,
        "confidence": None if entry.confidence is None else round(entry.confidence, 4),
        "band": entry.band,
        "reason": entry.reason,
        "caption": entry.caption,
    }
    return {"image": entry.image, "model": entry.model, **entry.record, **said}


def _rows(rows: Iterable[Sequence[Any]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


class ReviewFile:
    """A review file on disk that is gone on with. entries: what is in it, by the names of the photos."""

    def __init__(self, path: Path, file: BinaryIO, parsed: _Parsed) -> None:
        self.entries = parsed.entries
        self._path, self._file, self._parsed = path, file, parsed

    def add(self, entries: Sequence[Entry]) -> None:
        """Writes entries to the end, in the columns that the file has."""
        self.entries |= {entry.image: entry for entry in entries}
        self._file.write(self._written(entries))
        self._file.flush()

    def _written(self, entries: Iterable[Entry]) -> bytes:
        if self._path.suffix.lower() != ".csv":
            return jsonl_bytes(entries)
        columns = [column.strip().lower() for column in self._parsed.columns]
        rows = ([_cells(entry).get(column, "") for column in columns] for entry in entries)
        return utf8(_rows(rows, self._parsed.delimiter))


@contextmanager
def opened(path: Path) -> Iterator[ReviewFile]:
    """A review file to go on with, or a new one; no other run writes to it as long as this lasts.

    Photos that could not be read are left out of it, to be tried again; all else stays as people left it,
    columns of their own too.
    """
    check_name(path)
    with path.open("ab") as file:
        hold(file.fileno(), path)
        data = path.read_bytes()
        parsed = _parsed(data, str(path)) if data.strip() else _Parsed({}, {})
        failed = [image for image, entry in parsed.entries.items() if entry.error]
        for image in failed:
            del parsed.entries[image], parsed.lines[image]
    if failed or not data.endswith(b"\n"):
        with aside(path) as partial:
            partial.write_bytes(_whole(path, parsed))
    with path.open("ab") as file:
        hold(file.fileno(), path)
        yield ReviewFile(path, file, parsed)


def _whole(path: Path, parsed: _Parsed) -> bytes:
    if path.suffix.lower() != ".csv":
        return utf8("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in parsed.lines.values()))
    return utf8(_rows([parsed.columns, *parsed.lines.values()], parsed.delimiter))


def check_name(path: Path) -> None:
    """CaptionBotError for a name that is not that of a review file."""
    if path.suffix.lower() not in SUFFIXES:
        raise CaptionBotError(f"{shortened(path)} is no review file: name one that ends with .csv or .jsonl.")
