"""For captioners that describe detected boxes: what was found, how much attention each word gave each box,
and what is said without some of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from captionbot.draw.boxes import box_name
from captionbot.draw.boxes import regions as drawn_regions
from captionbot.pages.presenters.seen import Column, Picture, Seen, Sides, Table, side_by_side
from captionbot.text.display import sentence
from captionbot.types import Caption

TITLE = "Regions"
PICTURE = "What the detector found; point at a name to see its box"
MOST, LEAST = "Boxes at most", "Score at least"
BOXES = "Click a box to take it away: the photo is captioned again without it"
NONE = (
    "This captioner detects no boxes. Top-down attention does: choose “Bottom-up and top-down” among "
    "the settings to see them."
)
NOTHING = "Nothing was detected: the photo is described as a whole."
ATTENTION = "Attention per box and word, in %"
ALL = "All boxes"


class Left(NamedTuple):
    """What is said of the boxes that are left, and the same beside the caption of all boxes."""

    caption: Caption
    sides: Sides


def applies(caption: Caption) -> bool:
    """Whether the captioner describes boxes that a detector found; others do not have this view."""
    return caption.labels is not None


def names(caption: Caption) -> list[str]:
    return [f"{place + 1} {box_name(caption, place)}" for place in range(len(caption.boxes))]


def present(seen: Seen, most: int, least: float, kept: Collection[int]) -> Left:
    """The photo captioned again from the boxes that are left.

    most: how many of them, in their order; least: their score; kept: their numbers.
    """
    caption = seen.caption
    scores = np.ones(len(caption.boxes)) if caption.scores is None else caption.scores
    gone = tuple(p for p, score in enumerate(scores) if p >= most or p not in kept or score < least)
    said = seen.work.caption(replace(seen.asked, places=gone)).captions[0] if gone else caption
    titles = ALL, f"Without {len(gone)} of {len(caption.boxes)}"
    return Left(said, side_by_side(titles, caption, said))


def picture(seen: Seen, said: Caption) -> Picture:
    """The photo with the boxes that a caption describes, those of the chosen word's attention marked."""
    t = seen.t if said is seen.caption else None
    drawn = drawn_regions(seen.shown, said, t, len(said.boxes))
    return Picture(drawn, f"{sentence(said.text)} With its {len(said.boxes)} boxes.")


def boxed(photo: Image.Image, caption: Caption) -> tuple[Image.Image, list[tuple[Any, str]]]:
    """The photo and its boxes (xyxy), named, best score last, so that it lies on top. The whole image would
    cover the others."""
    from captionbot.encoders.regions import WHOLE_IMAGE  # with torch, which the first caption has loaded

    scale = np.array([*photo.size] * 2) / np.array([*caption.image_size] * 2)
    boxes = (caption.boxes * scale).round().astype(int)
    named = zip(boxes, names(caption), caption.labels or (), strict=True)
    return photo, [(tuple(box), name) for box, name, label in named if label != WHOLE_IMAGE][::-1]


def attention(caption: Caption) -> Table:
    """A row a box, a column a word: the share of each word's attention that the box got, in %."""
    columns = (Column("Box"), *(Column(word.text, 1, share=True, bar=1) for word in caption.words))
    rows = [[name, *alphas.tolist()] for name, alphas in zip(names(caption), caption.alphas.T, strict=True)]
    return Table(columns, rows, ATTENTION)
