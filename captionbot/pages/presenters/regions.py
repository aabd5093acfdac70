"""For captioners that describe detected boxes: what was found, how much attention each word gave each box,
and what is said without some of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from captionbot.draw import plots
from captionbot.draw.boxes import box_name
from captionbot.draw.boxes import regions as drawn_regions
from captionbot.draw.files import svg
from captionbot.pages.presenters.charts import Chart
from captionbot.pages.presenters.seen import Column, Picture, Seen, Sides, Table, are_nouns, side_by_side
from captionbot.text.display import percent, sentence
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
ATTENTION = "Where each word looked"
BOX = "Box, and how sure the detector is"
NOTE = "A column for each word: the share of its attention that a box got, in % from 5 % up."
LEFT_OUT = "The numbers have the {} boxes that got less, too."
ROWS = 12  # of the heat grid
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
    of = "the sentence" if t is None else f"“{said.words[t].text}”"
    told = f"With its {len(said.boxes)} boxes and their shares of the attention of {of}."
    return Picture(drawn, f"{sentence(said.text)} {told}")


def boxed(photo: Image.Image, caption: Caption) -> tuple[Image.Image, list[tuple[Any, str]]]:
    """The photo and its boxes (xyxy), named, best score last, so that it lies on top. The whole image would
    cover the others."""
    from captionbot.encoders.regions import WHOLE_IMAGE  # with torch, which the first caption has loaded

    scale = np.array([*photo.size] * 2) / np.array([*caption.image_size] * 2)
    boxes = (caption.boxes * scale).round().astype(int)
    named = zip(boxes, names(caption), caption.labels or (), strict=True)
    return photo, [(tuple(box), name) for box, name, label in named if label != WHOLE_IMAGE][::-1]


def attention(caption: Caption) -> Chart:
    """How much of each word's attention each box got: the boxes with the most of it as a heat grid, in their
    order, and all of them as its numbers."""
    named, words = names(caption), [word.text for word in caption.words]
    most = np.sort(np.argsort(-caption.alphas.max(0), kind="stable")[:ROWS])
    columns = (Column("Box"), *(Column(word, 1, share=True) for word in words))
    rows = [[name, *alphas.tolist()] for name, alphas in zip(named, caption.alphas.T, strict=True)]
    left = len(named) - len(most)
    return Chart(
        ATTENTION,
        svg(plots.heat([named[place] for place in most], words, caption.alphas.T[most], BOX)),
        " ".join(_looked(caption, named, t) for t, noun in enumerate(are_nouns(words)) if noun),
        NOTE if not left else f"{NOTE} {LEFT_OUT.format(left)}",
        Table(columns, rows),
    )


def _looked(caption: Caption, named: list[str], t: int) -> str:
    place = int(caption.alphas[t].argmax())
    share = percent(float(caption.alphas[t, place]))
    return f"“{caption.words[t].text}” looked most at {named[place]}, with {share} of its attention."
