"""Many photos at once: files or a .zip in, a table and files to take away out."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

from captionbot.bulk.folder import zip_of_texts
from captionbot.bulk.records import Result, write_csv, write_jsonl
from captionbot.errors import CaptionBotError
from captionbot.files import utf8
from captionbot.pages.presenters.judgement import cells, columns
from captionbot.pages.presenters.seen import Column, Table
from captionbot.pages.presenters.share import File
from captionbot.text.display import sentence

TITLE = "Many photos"
INTRODUCTION = (
    "Drop in photos, or a .zip of them. They are captioned in order; unreadable files are reported and "
    "skipped."
)
FILES = "Photos, or .zip files of them"
READING = "Reading the photos…"
NONE = "There are no photos yet: upload some, or a .zip of them."
WRITTEN = "CSV, JSONL, one .txt a photo"
THUMBNAIL = 120  # pixels


class Captioned(NamedTuple):
    """A photo of a batch: its result, and a small picture of it as a data URL, "" where it is no photo."""

    result: Result
    thumbnail: str


def button(files: int | None = None) -> str:
    return "Caption them all" if files is None else f"Caption {files} file{'s' * (files > 1)}"


def so_far(count: int) -> str:
    return f"{count} photos captioned…"


def note(done: Sequence[Captioned]) -> str:
    bad = len(unread(done))
    return f"{len(done) - bad} captioned, {bad} could not be read."


def unread(done: Sequence[Captioned]) -> list[str]:
    """Why there are photos without captions."""
    return [str(found) for (_, found), _ in done if isinstance(found, CaptionBotError)]


def table(done: Sequence[Captioned]) -> Table:
    best = [None if isinstance(found, CaptionBotError) else found.captions[0] for (_, found), _ in done]
    judged = columns(best)
    shown = (
        Column("Photo", picture=True),
        Column("Name"),
        Column("Caption"),
        Column("Likelihood", share=True),
        *judged,
    )
    rows = [
        [
            thumbnail or None,
            name,
            *((sentence(caption.text), caption.confidence) if caption else (str(found), None)),
            *cells(caption, judged),
        ]
        for ((name, found), thumbnail), caption in zip(done, best, strict=True)
    ]
    return Table(shown, rows, "The photos with their captions, in the order given.")


def files(done: Sequence[Captioned], model: str) -> list[File]:
    """model: the captioner's name, as it may be told."""
    found = [result for result, _ in done]

    def written(write: Callable[..., None]) -> bytes:
        out = io.StringIO()
        write(found, model, out)
        return utf8(out.getvalue())

    return [
        File("CSV", "captions.csv", "text/csv", lambda: written(write_csv)),
        File("JSONL", "captions.jsonl", "application/jsonl", lambda: written(write_jsonl)),
        File("One .txt a photo", "captions.zip", "application/zip", lambda: zip_of_texts(found)),
    ]
