"""Drawings of captions: arrays and PIL images in, PIL images and matplotlib figures out.

Never pyplot, whose state all sessions of a server would share. Everything is drawn at display size,
because nobody sees twelve megapixels on a page.
"""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from captionbot.explain.maps import attention_map
from captionbot.types import Caption

if TYPE_CHECKING:  # matplotlib takes half a second to import, and an overlay hardly needs it
    from matplotlib.figure import Figure

COLORMAPS = ("inferno", "viridis", "cividis", "spotlight")
"""Names that `overlay` takes: three that rise evenly in lightness, so that colour-blind people and grey
printers see the same order, and `spotlight`, which has no colours: it darkens what was not looked at."""

LABELS = 6  # boxes of a drawing that carry their names: more would hide the photo
DISPLAY = 1024  # pixels of a photo's longest side on a page

_INK, _FAINT, _PAPER = "#1f2430", "#8a90a0", "#ffffff"


@dataclass(frozen=True)
class Look:
    """How heatmaps are drawn: `attention_map`'s smooth, `overlay`'s strength and colormap; as lines of equal
    attention where contour is set."""

    smooth: bool = True
    strength: float = 0.6
    colormap: str = "inferno"
    contour: bool = False


LOOK = Look()


def sentence(text: str) -> str:
    """A caption as people write it: "a dog runs" -> "A dog runs."."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def percent(probability: float) -> str:
    """0.426 -> "43%", and "<1%" rather than a "0%" that would read as impossible."""
    return "<1%" if probability < 0.01 else f"{probability:.0%}"


def plain(text: str) -> str:
    """Text in which no character is taken for Markdown."""
    return re.sub(r"([\\`*_\[\]<>#$:~|])", r"\\\1", text)


def fit(image: Image.Image, longest: int = DISPLAY) -> Image.Image:
    """The image with its longest side at most so many pixels; never enlarged, never without a pixel."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)


def overlay(
    image: Image.Image, heatmap: np.ndarray, strength: float = LOOK.strength, colormap: str = LOOK.colormap
) -> Image.Image:
    """The RGB image with a heatmap laid over it: the hotter a pixel, the more of its colour shows.

    heatmap: (height, width) of the image, in [0, 1].
    strength: 0 shows the photo alone, 1 the colour alone where the heatmap is 1.
    colormap: one of COLORMAPS, or any other name that matplotlib knows.
    """
    if heatmap.shape != (image.height, image.width):
        raise ValueError(f"heatmap must be ({image.height}, {image.width}), not {heatmap.shape}")
    # Palettes and masks of 256 levels leave every pixel to Pillow's C code.
    levels = Image.fromarray((heatmap * 255).round().astype(np.uint8))
    if colormap == "spotlight":
        colours, shares = Image.new("RGB", image.size), 1 - np.linspace(0, 1, 256)
    else:
        colours, shares = levels.copy(), 0.15 + 0.85 * np.linspace(0, 1, 256)
        colours.putpalette(_palette(colormap))
        colours = colours.convert("RGB")
    mask = levels.point((255 * strength * shares).round().astype(int).tolist())
    return Image.composite(colours, image, mask)


@lru_cache
def _palette(colormap: str) -> bytes:
    from matplotlib import colormaps

    return (colormaps[colormap](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()


def contours(
    image: Image.Image, heatmap: np.ndarray, strength: float = LOOK.strength, colormap: str = LOOK.colormap
) -> Image.Image:
    """The RGB image with lines along which a heatmap is 0.3, 0.5, 0.7 and 0.9; the rest is the photo's own.

    Arguments as of `overlay`, strength being how much of the lines shows.
    """
    from contourpy import contour_generator

    step = max(1, max(image.size) // 256)  # heatmaps are smooth: finer lines would only take time
    lines = contour_generator(z=heatmap[::step, ::step])
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    width = max(1, round(max(image.size) / 220))
    for level in (0.3, 0.5, 0.7, 0.9):
        colour = _colour(colormap, 0.35 + 0.65 * level)
        for line in lines.lines(level):
            points = (step * np.asarray(line)).ravel().tolist()  # x, y, x, y, ...
            # The dark edge keeps the line apart from a photo of its own colour.
            draw.line(points, (0, 0, 0), width + 2, joint="curve")
            draw.line(points, colour, width, joint="curve")
    return Image.blend(image, drawn, strength)


def word_overlay(image: Image.Image, caption: Caption, t: int, look: Look = LOOK) -> Image.Image:
    """Word t's `attention_map` drawn at the image's own size, as `overlay` or `contours`."""
    heatmap = attention_map(caption, t, image.size, smooth=look.smooth or look.contour)
    return (contours if look.contour else overlay)(image, heatmap, look.strength, look.colormap)


def regions(image: Image.Image, caption: Caption, t: int | None = None, count: int = 5) -> Image.Image:
    """The image with boxes, each with its label, score and, for word t, its share of the attention.

    Drawn are the `count` boxes with the most attention of word t, or of all words where t is None; the
    heavier a box, the thicker its lines. Boxes without labels are numbered.
    """
    weights = caption.alphas.mean(0) if t is None else caption.alphas[t]
    most = weights.max() or 1.0  # a word may rest on none, as occlusion tells it
    scale = np.array([*image.size] * 2) / np.array([*caption.image_size] * 2)
    drawn, unit = image.copy(), max(image.size) / 400
    draw = ImageDraw.Draw(drawn)
    font = ImageFont.truetype(_font_path(), max(10, round(6 * unit + 6)))
    labels: list[tuple[tuple[float, float], str, tuple[int, int, int]]] = []
    for place in np.argsort(weights, kind="stable")[-count:]:
        left, top, right, bottom = (caption.boxes[place] * scale).tolist()
        heat = float(weights[place] / most)
        colour, width = _colour("viridis", 0.35 + 0.65 * heat), max(1, round(unit * (1 + 3 * heat)))
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        text = f"{box_name(caption, int(place))} · {percent(float(weights[place]))}"
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
    if caption.labels is None:
        return f"box {place + 1}"
    label = caption.labels[place]
    return label if caption.scores is None else f"{label} {percent(float(caption.scores[place]))}"


def _colour(colormap: str, level: float) -> tuple[int, int, int]:
    if colormap == "spotlight":
        return 255, 255, 255
    red, green, blue = _palette(colormap)[3 * round(255 * level) :][:3]
    return red, green, blue


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
        self.font = ImageFont.truetype(_font_path(), 20)
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


def _font_path() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


def png(picture: Figure | Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    if isinstance(picture, Image.Image):
        picture.save(buffer, "PNG")
    else:
        picture.savefig(buffer, format="png")
    return buffer.getvalue()


def data_url(image: Image.Image) -> str:
    """The image as a JPEG inside an address, for pages that ask no server for it."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _with_palette(frame: Image.Image) -> Image.Image:
    """A frame of 256 colours of its own, dithered. Pillow's own choice of them takes far longer."""
    return frame.quantize(palette=frame.quantize(256, Image.Quantize.FASTOCTREE))


def gif(frames: list[Image.Image], seconds: float = 0.7) -> bytes:
    """The bytes of an endless GIF that shows each frame so long, and the last one three times as long."""
    buffer = io.BytesIO()
    milliseconds = [round(seconds * 1000)] * (len(frames) - 1) + [round(seconds * 3000)]
    first, *others = map(_with_palette, frames)
    first.save(
        buffer, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0, optimize=False
    )
    return buffer.getvalue()
