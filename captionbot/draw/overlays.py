"""Heatmaps laid over photos: arrays and PIL images in, PIL images out.

Everything is drawn at display size, because nobody sees twelve megapixels on a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from captionbot.explain.attention_maps import attention_map
from captionbot.types import Caption

COLORMAPS = ("inferno", "viridis", "cividis", "spotlight")
"""Names that `overlay` takes: three that rise evenly in lightness, so that colour-blind people and grey
printers see the same order, and `spotlight`, which has no colours: it darkens what was not looked at."""

DISPLAY = 1024  # pixels of a photo's longest side on a page


@dataclass(frozen=True)
class Look:
    """How heatmaps are drawn: `attention_map`'s smooth, `overlay`'s strength and colormap; as lines of equal
    attention where contour is set."""

    smooth: bool = True
    strength: float = 0.6
    colormap: str = "inferno"
    contour: bool = False


LOOK = Look()


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
        colour = colour_of(colormap, 0.35 + 0.65 * level)
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


def colour_of(colormap: str, level: float) -> tuple[int, int, int]:
    if colormap == "spotlight":
        return 255, 255, 255
    red, green, blue = _palette(colormap)[3 * round(255 * level) :][:3]
    return red, green, blue
