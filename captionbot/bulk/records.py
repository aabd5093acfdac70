"""Captions as files: plain records, the lines of `--format jsonl`, the rows of `--format csv`.

Both files grow by one image at a time, in one write, so that a run that was killed can go on: `written`
says what such a file holds, and where its last whole record ends.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TextIO

from captionbot.errors import CaptionBotError
from captionbot.types import Caption, Captioned

Result = tuple[str, Captioned | CaptionBotError]
"""An image's name, and its captions or why it has none."""

_DIGITS = 6  # more would be noise of the arithmetic, and three times the bytes
_COLUMNS = [
    "image", "caption", "log_prob", "confidence", "rank", "error", "model",
    "probability", "band", "reason", "doubtful_word", "general",
]  # fmt: skip
_UNJUDGED, _UNNAMED = (
    _COLUMNS[:7],
    _COLUMNS[:6],
)  # of files of before; these do not say whose captions they hold
_MODEL = _COLUMNS.index("model")


def record(
    image_name: str, model_name: str, captioned: Captioned, *, with_alphas: bool = False
) -> dict[str, Any]:
    """{"image", "model", "captions": [{"text", "log_prob", "words": [{"text", "log_prob"}]}]}, best first.

    A caption that was judged has "judgement" too: the fields of `types.Judgement`.

    with_alphas: also where the model looked. Each caption then has "image_size" (width, height),
    "grid" (rows, columns; null for regions) and "boxes" (P of xyxy, pixels), each word "alphas" (P).
    """
    captions = [caption_fields(caption, with_alphas) for caption in captioned.captions]
    return {"image": image_name, "model": model_name, "captions": captions}


def error_record(image_name: str, message: str) -> dict[str, Any]:
    """The line of an image that could not be captioned: {"image", "error"}."""
    return {"image": image_name, "error": message}


def records(results: Iterable[Result], model: str) -> Iterator[dict[str, Any]]:
    """`record` or `error_record` of every result, in their order."""
    for name, result in results:
        if isinstance(result, CaptionBotError):
            yield error_record(name, str(result))
        else:
            yield record(name, model, result)


def write_jsonl(results: Iterable[Result], model: str, out: TextIO) -> None:
    """A record a line."""
    for line in records(results, model):
        out.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_csv(
    results: Iterable[Result], model: str, out: TextIO, columns: Sequence[str] | None = None
) -> None:
    """A row a caption, rank 1 the best; a row with nothing but its error for an image that failed.

    columns: of the file that is gone on with, as `csv_columns`; None: a new one, which gets its first row.
    """
    if columns is None:
        columns = _COLUMNS
        out.write(_rows([columns]))
    for name, result in results:
        if isinstance(result, CaptionBotError):
            rows = [[name, "", "", "", "", result, "", *_judged(None)]]
        else:
            rows = [
                [name, caption.text, f"{caption.log_prob:.4f}", f"{caption.confidence:.4f}", rank, "", model,
                 *_judged(caption)]
                for rank, caption in enumerate(result.captions, start=1)
            ]  # fmt: skip
        out.write(_rows(row[: len(columns)] for row in rows))


def _judged(caption: Caption | None) -> list[Any]:
    """The last columns: the caption's judgement, empty where it has none."""
    if caption is None or caption.judgement is None:
        return ["", "", "", "", ""]
    judged, t = caption.judgement, caption.judgement.doubtful_word
    word = "" if t is None else caption.words[t].text
    return [f"{judged.probability:.4f}", judged.band, judged.reason, word, judged.general]


def csv_columns(path: Path) -> list[str]:
    """The first row of a table of captions."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return next(csv.reader(file))


def _rows(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def written(path: Path, model: str, as_csv: bool = False) -> tuple[Counter[str], int]:
    """How often each image stands in a file of captions, as `as_written`, and the bytes of whole records.

    What is torn at the end of the file is not counted: a kill or a full disk left it.
    Raises CaptionBotError for a file that is something else, or of another captioner.
    """
    with path.open("rb") as file:
        return (_written_csv if as_csv else _written_jsonl)(file, model)


def as_written(name: str) -> str:
    """A file's name as it stands in a file of captions: what is not UTF-8 in it is escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _written_jsonl(file: BinaryIO, model: str) -> tuple[Counter[str], int]:
    names, whole = Counter[str](), 0
    for number, line in enumerate(file, start=1):
        try:
            found = json.loads(line)
            name, by = found["image"], found.get("model", model)
            if not isinstance(name, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            if _is_torn(line, b'{"image": ') and not file.read(1):
                break
            raise _other_file(file, f"line {number} is no record of captions") from None
        if by != model:
            raise _by_other(file, by, model)
        if not line.endswith(b"\n"):
            break
        names[as_written(name)] += 1
        whole += len(line)
    return names, whole


def _written_csv(file: BinaryIO, model: str) -> tuple[Counter[str], int]:
    read, ended = 0, True

    def lines() -> Iterator[str]:
        nonlocal read, ended
        for line in file:
            read, ended = read + len(line), line.endswith(b"\n")
            yield line.decode("utf-8", "replace")
            if not ended:
                raise csv.Error

    def no_row(start: int) -> CaptionBotError:
        return _other_file(file, f"what stands after byte {start} is no row of captions")

    headers = {_rows([columns]).encode(): columns for columns in (_COLUMNS, _UNJUDGED, _UNNAMED)}
    longest = next(iter(headers))
    start = file.readline(len(longest))
    columns = headers.get(start)
    if columns is None:
        if _is_torn(start, longest):
            return Counter(), 0
        raise _other_file(file, "its first row is not that of a table of captions")
    names, whole, begins, last = Counter[str](), len(start), len(start), ""
    read = whole
    try:
        for row in csv.reader(lines(), strict=True):
            if len(row) != len(columns):
                if row and ended:  # a torn row stops in its line
                    raise no_row(whole)
                raise csv.Error
            if ended and columns is not _UNNAMED and row[_MODEL] not in ("", model):
                raise _by_other(file, row[_MODEL], model)
            if row[4] in ("", "1"):  # the first row of an image
                begins, last = whole, row[0]
                names[last] += 1
            whole = read
    except csv.Error:  # the torn row may belong to the image before: that one is done again
        if file.read(1):
            raise no_row(whole) from None
        if last:
            names[last] -= 1
        whole = begins
    return names, whole


def _is_torn(end: bytes, start: bytes) -> bool:
    """Whether bytes are the beginning of what starts so, or the zeros that a crash of the machine leaves."""
    return end[: len(start)] == start[: len(end)] or not end.strip(b"\0\n")


def _by_other(file: BinaryIO, by: str, model: str) -> CaptionBotError:
    return _other_file(file, f"its captions are by {by}, not by {model}")


def _other_file(file: BinaryIO, why: str) -> CaptionBotError:
    return CaptionBotError(
        f"{file.name} is not a file to go on with ({why}): name another, or leave out --resume to replace it."
    )


def free_name(name: PurePosixPath, taken: set[str]) -> str:
    """dog.jpg -> dog.txt; for a dog.png beside it dog.png.txt; then dog.png-2.txt, and so on."""
    names = chain([str(name.with_suffix(".txt")), f"{name}.txt"], (f"{name}-{n}.txt" for n in count(2)))
    free = next(path for path in names if path.casefold() not in taken)
    taken.add(free.casefold())
    return free


def caption_fields(caption: Caption, with_alphas: bool = False) -> dict[str, Any]:
    """One of the captions of a `record`."""
    words: list[dict[str, Any]] = [
        {"text": word.text, "log_prob": round(float(word.log_prob), _DIGITS)} for word in caption.words
    ]
    fields: dict[str, Any] = {
        "text": caption.text,
        "log_prob": round(float(caption.log_prob), _DIGITS),
        "words": words,
    }
    if caption.judgement is not None:
        judged = dataclasses.asdict(caption.judgement)
        fields["judgement"] = {
            name: round(value, _DIGITS) if isinstance(value, float) else value
            for name, value in judged.items()
        }
    if with_alphas:
        for word, alphas in zip(words, caption.alphas, strict=True):
            word["alphas"] = alphas.astype(float).round(_DIGITS).tolist()
        fields["image_size"] = list(caption.image_size)
        fields["grid"] = None if caption.grid is None else list(caption.grid)
        fields["boxes"] = caption.boxes.astype(float).round(2).tolist()
    return fields
