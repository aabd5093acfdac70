"""All words of a caption at once: contact sheets, and animations that write the sentence.

Never pyplot, whose state all sessions of a server would share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from captionbot.draw.fonts import font_path
from captionbot.draw.overlays import LOOK, Look, fit, word_overlay
from captionbot.text.display import percent, sentence
from captionbot.types import Caption

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.figure import Figure

_INK, _FAINT, _PAPER = "#1f2430", "#8a90a0", "#ffffff"


def contact_sheet(image: Image.Image, caption: Caption, look: Look = LOOK) -> Figure:
    """The photo, then the same photo for every word: the word, its probability, where the model looked."""
    from matplotlib.figure import Figure

    photo = fit(image, 420)
    sheet = _Sheet.of(len(caption.words) + 1, photo.width / photo.height)
    figure = Figure((sheet.width, sheet.height), dpi=150, facecolor=_PAPER)
    title = sentence(caption.text)
    style: dict[str, Any] = {"va": "top", "parse_math": False}
    figure.text(*sheet.title, title, fontsize=sheet.title_size(title), weight="bold", color=_INK, **style)
    figure.add_axes(sheet.tile(0)).imshow(np.asarray(photo))
    for t, word in enumerate(caption.words):
        axes = figure.add_axes(sheet.tile(t + 1))
        axes.imshow(np.asarray(word_overlay(photo, caption, t, look)))
        style |= {"transform": axes.transAxes, "fontsize": 11}
        axes.text(0, sheet.below, word.text, color=_INK, **style)
        axes.text(1, sheet.below, percent(math.exp(word.log_prob)), color=_FAINT, ha="right", **style)
    for axes in figure.axes:
        axes.set_anchor("N")
        axes.axis("off")
    return figure


@dataclass(frozen=True)
class _Sheet:
    """Where things stand on a contact sheet: lengths in inches, places as matplotlib's fractions."""

    columns: int
    rows: int
    tile_height: float
    tile_width: float = 2.4
    margin: float = 0.35
    gap: float = 0.18
    header: float = 0.85
    label: float = 0.42

    @classmethod
    def of(cls, tiles: int, aspect: float) -> _Sheet:
        """A sheet that is well filled and somewhat wider than high."""
        # Tiles keep the photo's shape, within reason: a panorama of 3000:1 still gets a place to stand.
        tile_height = cls.tile_width / min(max(aspect, 0.5), 2.5)
        ideal = math.sqrt(1.5 * tiles * tile_height / cls.tile_width)
        columns = min(range(1, tiles + 1), key=lambda n: abs(n - ideal) + 0.4 * (-tiles % n))
        return cls(columns, math.ceil(tiles / columns), tile_height)

    @property
    def width(self) -> float:
        return 2 * self.margin + self.columns * (self.tile_width + self.gap) - self.gap

    @property
    def height(self) -> float:
        return self.header + self.rows * (self.tile_height + self.label) + self.margin

    @property
    def title(self) -> tuple[float, float]:
        return self.margin / self.width, 1 - self.margin / self.height

    def title_size(self, title: str) -> float:
        """Points at which a bold title stays between the margins."""
        return min(18, 72 * (self.width - 2 * self.margin) / (0.65 * len(title)))

    @property
    def below(self) -> float:
        """Height of a tile's label, in its axes."""
        return -0.06 / self.tile_height

    def tile(self, index: int) -> tuple[float, float, float, float]:
        row, column = divmod(index, self.columns)
        left = self.margin + column * (self.tile_width + self.gap)
        bottom = self.height - self.header - row * (self.tile_height + self.label) - self.tile_height
        return (
            left / self.width,
            bottom / self.height,
            self.tile_width / self.width,
            self.tile_height / self.height,
        )


def animation(image: Image.Image, caption: Caption, look: Look = LOOK) -> list[Image.Image]:
    """One RGB frame a word, the photo alone first: the heatmap moves as the sentence is written below."""
    photo = fit(image, 640)
    strip = _Strip(caption, max(photo.width, 320))
    words = range(len(caption.words))
    return [strip.under(photo, None), *(strip.under(word_overlay(photo, caption, t, look), t) for t in words)]


class _Strip:
    """The caption set in lines below a frame, one word of it marked."""

    def __init__(self, caption: Caption, width: int) -> None:
        self.width, self.margin, self.leading, self.gap = width, 16, 32, 12
        self.font = ImageFont.truetype(font_path(), 20)
        self.words = [word.text for word in caption.words]
        self.corners: list[tuple[float, float]] = []
        x, y = float(self.margin), float(self.margin)
        for word in self.words:
            advance = self.font.getlength(word)
            if x > self.margin and x + advance > width - self.margin:
                x, y = float(self.margin), y + self.leading
            self.corners.append((x, y))
            x += advance + self.gap
        self.height = round(y) + self.leading + self.margin

    def under(self, photo: Image.Image, t: int | None) -> Image.Image:
        frame = Image.new("RGB", (self.width, photo.height + self.height), _PAPER)
        frame.paste(photo, ((self.width - photo.width) // 2, 0))
        draw = ImageDraw.Draw(frame)
        for index, (word, (x, y)) in enumerate(zip(self.words, self.corners, strict=True)):
            y += photo.height
            if index == t:
                box = draw.textbbox((x, y), word, self.font)
                draw.rounded_rectangle((box[0] - 5, y - 2, box[2] + 5, y + 27), 6, fill=_INK)
            said = t is None or index < t
            draw.text((x, y), word, _PAPER if index == t else _INK if said else _FAINT, self.font)
        return frame
