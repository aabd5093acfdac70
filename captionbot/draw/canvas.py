"""What the browser's own part of pages and report is given: `canvas.js`, `canvas.css` and records.

A page mounts parts of one kind each (`CaptionBot.mount` of canvas.js): the photo, its sentence, the tree of
its beam search. They share what is looked at: a word that is pointed at has its map on the photo at once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from captionbot.draw.boxes import box_name
from captionbot.draw.files import data_url, text_beside
from captionbot.draw.overlays import LOOK, Look, colour_of
from captionbot.text.display import sentence
from captionbot.types import Caption, Search, Word

LEVELS = 255  # of a map, whose highest number is drawn as the hottest
STOPS = 10  # colours of a scale, between which the browser mixes

SENTENCE = {
    "words": "The caption, word by word",
    "instead": "Instead of",
    "type": "or type your own words",
    "go": "Go on",
    "never": "Never say",
    "hide": "Hide where it looked",
    "close": "Close",
    "play": "Play",
    "stop": "Stop",
    "scrub": "Word by word",
    "nothing": "the photo alone",
    "kinds": "What the heatmap shows",
    "looked": "Where it looked",
    "needs": "What it needs",
    "copy": "Copy",
    "alt": "Copy as alt text",
    "copied": "Copied",
    "length": "Length of the sentence",
    "shorter": "Shorter",
    "longer": "Longer",
    "undo": "Undo",
    "caption": "Caption:",
    "hint": "Point at a word to see where the model looked. Click it to say something else.",
    "spots": "Click a place of the photo to see which words need it.",
}
BEAM = {
    "hint": "Point at a word to see where the model looked for it, and what became of its sentence.",
    "blind": "Point at a word to see what became of its sentence.",
    "none": "",
    "keys": "The beam search as a tree. Arrow keys move from word to word, + and − zoom, 0 shows all.",
    "grow": "Words so far",
    "in": "Zoom in",
    "out": "Zoom out",
    "fit": "Show all",
}
"""What stands on the sentence and on the tree."""


def script() -> str:
    return text_beside(__file__, ".js")


def style() -> str:
    return text_beside(__file__, ".css")


def photo(
    image: Image.Image,
    alt: str,
    says: Mapping[str, str] = {},
    *,
    boxes: Sequence[Sequence[float]] = (),
    only: bool = False,
    places: Sequence[Mapping[str, Any]] = (),
    **sources: Any,
) -> dict[str, Any]:
    """The record of the photo.

    image: at display size. alt: what a screen reader says of it.
    says: texts of its buttons. boxes: (xyxy as fractions) that are hidden, or all that is not where `only`.
    places: of `detected`. sources: where other photos come from, as a page offers them.
    """
    return {
        "part": "photo",
        "photo": {"src": data_url(image), "alt": alt, "width": image.width, "height": image.height},
        "says": dict(says),
        "hidden": [list(box) for box in boxes],
        "only": only,
        "places": list(places),
        **sources,
    }


def detected(caption: Caption, gone: Collection[int] = ()) -> list[dict[str, Any]]:
    """The boxes that a captioner of detected boxes describes, in order; gone: those that are left out."""
    if caption.labels is None:
        return []
    boxes = _fractions(caption)
    return [
        {"name": box_name(caption, place), "box": boxes[place], "on": place not in gone}
        for place in range(len(boxes))
    ]


def words(
    looked: Caption,
    sentences: Sequence[str],
    rivals: Sequence[Sequence[Word]] = (),
    *,
    needs: Caption | None = None,
    need_sentences: Sequence[str] = (),
    marks: Sequence[str] = (),
    changed: Sequence[bool] = (),
) -> dict[str, Any]:
    """The record of a sentence: its words with their maps, and the places that these speak of.

    looked: the caption whose alphas are drawn; needs: the same with what its words need as alphas.
    sentences: what is said of each word as its map is shown; need_sentences: as what it needs is shown.
    rivals: of each word, likeliest first. marks: a sign beside each word. changed: whether it is new.
    """
    of = [list(_levels(row)) for row in looked.alphas]
    of_needs = [list(_levels(row)) for row in needs.alphas] if needs is not None else None
    said = []
    for t, word in enumerate(looked.words):
        one: dict[str, Any] = {
            "text": word.text,
            "p": round(min(1.0, math.exp(word.log_prob)), 4),
            "looked": of[t],
            "says": sentences[t],
            "rivals": [[rival.text, round(math.exp(rival.log_prob), 4)] for rival in rivals[t]]
            if t < len(rivals)
            else [],
        }
        if of_needs is not None:
            one |= {"needs": of_needs[t], "says_needs": need_sentences[t] if need_sentences else ""}
        if marks and marks[t]:
            one["mark"] = marks[t]
        if changed and changed[t]:
            one["changed"] = True
        said.append(one)
    text = sentence(looked.text)
    record: dict[str, Any] = {
        "part": "sentence",
        "words": said,
        "text": text,
        "said": text,
        "places": _places(looked),
    }
    if needs is not None:
        record["needs"] = _places(needs)
    record["id"] = hashlib.sha256(f"{text}{of}{of_needs}".encode()).hexdigest()[:16]
    return record


def look(look: Look) -> dict[str, Any]:
    """How the browser draws maps. colours: of the scale, from cold to hot; None for the browser's own, and
    none at all where the photo is darkened instead."""
    colours: list[tuple[int, int, int]] | None = None
    if look.colormap == "spotlight":
        colours = []
    elif look.colormap != LOOK.colormap:
        colours = [colour_of(look.colormap, step / (STOPS - 1)) for step in range(STOPS)]
    shape = "contour" if look.contour else "smooth" if look.smooth else "cells"
    return {"strength": look.strength, "shape": shape, "colours": colours}


def beam(svg: str, search: Search, says: Mapping[str, str]) -> dict[str, Any]:
    """The record of a beam search; without maps, of a captioner that sees the photo as one place.

    svg: of `beam_tree.draw`, whose nodes name their maps.
    """
    steps, _, beams, places = search.alphas.shape
    maps = {
        f"{step}-{beam}": list(_levels(search.alphas[step, 0, beam]))
        for step in range(steps if places > 1 else 0)
        for beam in range(beams)
    }
    told = dict(says) if maps else {**says, "hint": says["blind"]}
    return {"part": "beam", "svg": svg, "maps": maps, "says": told}


def _places(caption: Caption) -> dict[str, Any]:
    if caption.grid is not None and _covers(caption):
        return {"grid": list(caption.grid)}
    return {"boxes": _fractions(caption)}


def _covers(caption: Caption) -> bool:
    """Whether the grid covers the whole photo, as it does where photos are not cropped."""
    left_top, right_bottom = caption.boxes[0, :2], caption.boxes[-1, 2:]
    edges = np.abs([*left_top, *(right_bottom - np.array(caption.image_size))])
    return bool((edges <= 1).all())


def _fractions(caption: Caption) -> list[list[float]]:
    found: list[list[float]] = caption.fractions.round(4).tolist()
    return found


def _levels(row: np.ndarray) -> list[int]:
    peak = float(row.max()) if row.size else 0.0
    levels: list[int] = (
        np.clip(row / peak * LEVELS if peak > 0 else row * 0, 0, LEVELS).round().astype(int).tolist()
    )
    return levels
