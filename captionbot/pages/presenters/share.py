"""What a person can export: a link, pictures, numbers, and a page that opens offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from captionbot.bulk.records import record
from captionbot.draw import files as pictures
from captionbot.draw import report, sheets
from captionbot.files import utf8
from captionbot.pages.presenters import beam, canvas
from captionbot.pages.presenters.seen import Seen
from captionbot.text.display import sentence

TITLE = "Share"
EXPORT, COPY, NUMBERS = "Export", "Copy", "JSON"
BUTTON = "Make the files"
LINK = "Link"
LINK_HELP = (
    "It restores the captioner and every setting, and the photo too where that came from a link or is a "
    "sample. Photos of your own are not stored, so they cannot be linked to."
)


class File(NamedTuple):
    """make: its content, once it is asked for."""

    label: str
    name: str
    mime: str
    make: Callable[[], bytes]


def files(seen: Seen) -> list[File]:
    stem = Path(seen.photo.name).stem or "photo"
    return [
        File("The page that opens offline (HTML)", f"{stem}.html", "text/html", lambda: utf8(page(seen))),
        File("Every word (PNG)", f"{stem}.png", "image/png", lambda: sheet(seen)),
        File("5 seconds to send (GIF)", f"{stem}.gif", "image/gif", lambda: pictures.gif(frames(seen))),
        File("5 seconds to send (WebP)", f"{stem}.webp", "image/webp", lambda: pictures.webp(frames(seen))),
        File(
            "Captions and attention (JSON)",
            f"{stem}.json",
            "application/json",
            lambda: utf8(json.dumps(numbers(seen, with_alphas=True), ensure_ascii=False)),
        ),
    ]


def captions(seen: Seen) -> list[str]:
    return [sentence(caption.text) for caption in seen.captioned.captions]


def sheet(seen: Seen) -> bytes:
    return pictures.png(sheets.contact_sheet(seen.shown, seen.looked, seen.look))


def frames(seen: Seen) -> list[Image.Image]:
    """The heatmap of one word after the other, as the sentence is written."""
    return sheets.animation(seen.shown, seen.looked, seen.look)


def numbers(seen: Seen, with_alphas: bool = False) -> dict[str, Any]:
    name = seen.work.public(seen.model)
    return record(seen.photo.name, name, seen.captioned, with_alphas=with_alphas)


def page(seen: Seen) -> str:
    """The report of the chosen caption, with what its words need."""
    for _ in seen.needs():
        pass  # what is measured is kept, for the record
    words = canvas.words(seen, expert=True)
    if seen.attends:
        words["kind"] = "needs"  # the map that is tested comes first, and attention is the other
    captions = list(seen.captioned.captions)
    captions[seen.rank] = seen.looked
    return report.html(
        seen.photo.name,
        seen.work.title(seen.model),
        seen.shown,
        replace(seen.captioned, captions=tuple(captions)),
        seen.rank,
        seen.rivals,
        beam.tree(seen, cut=False),
        seen.look,
        words,
    )
