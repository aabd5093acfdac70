"""Captions as files: plain records, the lines of `--format jsonl`, the rows of `--format csv`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any, TextIO

from captionbot.errors import CaptionBotError
from captionbot.types import Caption, Captioned

Result = tuple[str, Captioned | CaptionBotError]
"""An image's name, and its captions or why it has none."""

_DIGITS = 6  # more would be noise of the arithmetic, and three times the bytes


def record(
    image_name: str, model_name: str, captioned: Captioned, *, with_alphas: bool = False
) -> dict[str, Any]:
    """{"image", "model", "captions": [{"text", "log_prob", "words": [{"text", "log_prob"}]}]}, best first.

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
        print(json.dumps(line, ensure_ascii=False), file=out)


def write_csv(results: Iterable[Result], model: str, out: TextIO) -> None:
    """A row a caption, rank 1 the best; a row with nothing but its error for an image that failed."""
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["image", "caption", "log_prob", "confidence", "rank", "error"])
    for name, result in results:
        if isinstance(result, CaptionBotError):
            table.writerow([name, "", "", "", "", result])
            continue
        for rank, caption in enumerate(result.captions, start=1):
            table.writerow(
                [name, caption.text, f"{caption.log_prob:.4f}", f"{caption.confidence:.4f}", rank, ""]
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
    if with_alphas:
        for word, alphas in zip(words, caption.alphas, strict=True):
            word["alphas"] = alphas.astype(float).round(_DIGITS).tolist()
        fields["image_size"] = list(caption.image_size)
        fields["grid"] = None if caption.grid is None else list(caption.grid)
        fields["boxes"] = caption.boxes.astype(float).round(2).tolist()
    return fields
