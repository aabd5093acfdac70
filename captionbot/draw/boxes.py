"""Detected regions drawn on photos, each with its name and its share of the attention."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from captionbot.draw.fonts import font_path
from captionbot.draw.overlays import colour_of
from captionbot.text.display import percent
from captionbot.types import Caption

LABELS = 3  # boxes of a drawing that carry their names: more would hide the photo


def regions(image: Image.Image, caption: Caption, t: int | None = None, count: int = 5) -> Image.Image:
    """The image with boxes, each with its label and its share of the attention of word t.

    Drawn are the `count` boxes with the most attention of word t, or of all words where t is None; the
    heavier a box, the thicker its lines. Boxes without labels are numbered.
    """
    weights = caption.alphas.mean(0) if t is None else caption.alphas[t]
    most = weights.max() or 1.0  # a word may rest on none, as occlusion tells it
    scale = np.array([*image.size] * 2) / np.array([*caption.image_size] * 2)
    drawn, unit = image.copy(), max(image.size) / 400
    draw = ImageDraw.Draw(drawn)
    font = ImageFont.truetype(font_path(), max(10, round(6 * unit + 6)))
    labels: list[tuple[tuple[float, float], str, tuple[int, int, int]]] = []
    for place in np.argsort(weights, kind="stable")[-count:]:
        left, top, right, bottom = (caption.boxes[place] * scale).tolist()
        heat = float(weights[place] / most)
        colour, width = colour_of("viridis", 0.35 + 0.65 * heat), max(1, round(unit * (1 + 3 * heat)))
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        text = f"{_label(caption, int(place))} · {percent(float(weights[place]))}"
        room = image.width - draw.textlength(text, font) - 2  # so that no label runs over the edge
        labels.append(((max(0, min(left + width + 2, room)), top + width + 1), text, colour))
    taken: list[tuple[float, ...]] = []
    for at, text, colour in labels[: -LABELS - 1 : -1]:  # the heaviest keeps its place, others move down
        label = draw.textbbox(at, text, font)
        while any(_overlap(label, other) for other in taken) and label[3] + 1 < image.height:
            at = at[0], at[1] + 1
            label = draw.textbbox(at, text, font)
        taken.append(label)
        draw.rectangle(label, fill=colour)
        draw.text(at, text, "black", font)
    return drawn


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def box_name(caption: Caption, place: int) -> str:
    """A place of a caption for a reader: its label and score where a detector gave them, else its number."""
    label = _label(caption, place)
    if caption.labels is None or caption.scores is None:
        return label
    return f"{label} {percent(float(caption.scores[place]))}"


def _label(caption: Caption, place: int) -> str:
    return f"box {place + 1}" if caption.labels is None else caption.labels[place]
