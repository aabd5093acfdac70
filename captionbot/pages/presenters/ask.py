"""Hide a part of the photo and caption it again: what changes rested on what is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from captionbot.explain import counterfactuals as explore
from captionbot.pages.presenters.seen import Picture, Seen, Sides, side_by_side
from captionbot.pages.work import Box, Decoded, boxes_looked_at, cover
from captionbot.text.display import percent, sentence
from captionbot.types import Caption

TITLE = "Ask the picture"
WHAT = "What"
RECTANGLE, PAINTED, LOOKED = "A rectangle", "What I paint over", "What a word rests on"
DO, HIDE, ONLY = "Do what with it", "Hide it", "Show only it"
BUTTON = "Caption it again"
WORD = "Word"
PAINT_HERE = "Paint here"
SHOWN = "What the model is shown"
WHOLE, REST, REST_ONLY = "The whole photo", "With that hidden", "Only that"
SPANS = ("From left to right, %", "From top to bottom, %")
EDGES = {"Left, %": 30, "Top, %": 30, "Right, %": 70, "Bottom, %": 70}
NOTHING = "Nothing is painted yet: paint over a part of the photo first."


class Hidden(NamedTuple):
    """picture: what the model was shown; share: how much of it is hidden, in a sentence."""

    picture: Picture
    share: str
    sides: Sides


def drag(seen: Seen) -> str:
    return f"{sentence(seen.caption.text)} Drag a rectangle over it, or use the sliders below."


def rests_on(seen: Seen, t: int) -> tuple[tuple[Box, ...], str]:
    """The places that together hold half of what word t rests on, and a sentence on them."""
    caption = seen.looked
    boxes = boxes_looked_at(caption, t)
    text = seen.words[t]
    return boxes, (
        f"{len(boxes)} of {len(caption.boxes)} places hold half of what “{text}” rests on, by this heatmap."
    )


def present(seen: Seen, boxes: tuple[Box, ...], only: bool) -> Hidden:
    """What the captioner says of the photo without some boxes; only: without all else."""
    after = seen.work.caption(replace(seen.asked, boxes=boxes, others=only)).captions[0]
    return _hidden(seen, cover(seen.shown.size, boxes, only), only, after)


def present_masked(seen: Seen, mask: Image.Image, only: bool) -> Hidden:
    """The same for a mask (mode L) of the photo, 255 where it is hidden."""
    photo = Decoded(seen.photo.name, explore.hide(seen.photo.decode(), mask))
    after = seen.work.caption(replace(seen.asked, photo=photo)).captions[0]
    return _hidden(seen, mask.resize(seen.shown.size), only, after)


def _hidden(seen: Seen, mask: Image.Image, only: bool, after: Caption) -> Hidden:
    share = float(np.asarray(mask).mean()) / 255
    return Hidden(
        Picture(explore.hide(seen.shown, mask), f"What the model was shown: {sentence(after.text)}"),
        f"{percent(share)} of the photo is hidden.",
        side_by_side((WHOLE, REST_ONLY if only else REST), seen.captioned.captions[0], after),
    )
