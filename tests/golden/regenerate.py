"""Golden captions: what the default captioner says of tiny pictures of our own making.

    python -m tests.golden.regenerate             # captions.json anew, after weights have changed on purpose
    python -m tests.golden.regenerate --pictures  # the pictures too, after `SCENES` has changed

The pictures are in the public domain (CC0).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).parent
CAPTIONS = FOLDER / "captions.json"
WIDTH, HEIGHT = 112, 84
SCALE = 4  # drawn large and made small, for smooth edges


def captions() -> dict[str, str]:
    """The best caption of every picture by its name, in fp32, which all CPUs have."""
    from captionbot import Captioner, load_image

    captioner = Captioner.from_pretrained(device="cpu", precision="float32")
    pictures = sorted(FOLDER.glob("*.png"))
    captioned = captioner.caption([load_image(picture) for picture in pictures])
    return {picture.name: said.captions[0].text for picture, said in zip(pictures, captioned, strict=True)}


def _scaled(x: int, y: int, size: float) -> Callable[..., list[float]]:
    """Points of a figure, given as right, up, right, up... of its feet, in the picture."""

    def at(*points: float) -> list[float]:
        pairs = zip(points[::2], points[1::2], strict=True)
        return [value for right, up in pairs for value in (x + right * size, y - up * size)]

    return at


def _dog(draw: ImageDraw.ImageDraw, x: int, y: int, size: float, colour: str) -> None:
    """A dog that runs to the right, its feet at (x, y)."""
    at = _scaled(x, y, size)

    draw.ellipse(at(-14, 18, 14, 8), colour)
    for foot, hip in ((-19, -11), (-9, -8), (10, 8), (19, 11)):
        draw.line(at(hip, 11, foot, 0), colour, round(4 * size))
    draw.line(at(-12, 15, -22, 22), colour, round(3 * size))
    draw.line(at(10, 14, 16, 20), colour, round(7 * size))
    draw.ellipse(at(11, 26, 23, 17), colour)
    draw.ellipse(at(19, 23, 28, 18), colour)
    draw.polygon(at(12, 25, 10, 17, 15, 21), "#2a1a10")
    draw.ellipse(at(18, 24, 19.5, 22.5), "black")
    draw.ellipse(at(26, 22, 28.5, 20), "black")


def _person(draw: ImageDraw.ImageDraw, x: int, y: int, size: float, shirt: str, legs: str) -> None:
    """Someone who stands with the feet at (x, y)."""
    at = _scaled(x, y, size)

    for side in (-1, 1):
        draw.line(at(2 * side, 17, 4 * side, 0), legs, round(4 * size))
        draw.line(at(4 * side, 30, 9 * side, 19), "#d9a27c", round(3 * size))
    draw.rounded_rectangle(at(-6, 33, 6, 15), 3 * size, shirt)
    draw.ellipse(at(-4, 43, 4, 34), "#d9a27c")
    draw.chord(at(-4.5, 44, 4.5, 35), 180, 360, "#3b2412")


def _bands(draw: ImageDraw.ImageDraw, *bands: tuple[float, str, str]) -> None:
    """The picture from top to bottom: (down to which share of the height, colour above, colour below)."""
    top = 0
    for end, above, below in bands:
        bottom = round(end * HEIGHT * SCALE)
        a, b = (Image.new("RGB", (1, 1), c).getpixel((0, 0)) for c in (above, below))
        for row in range(top, bottom):
            t = (row - top) / max(1, bottom - top)
            colour = tuple(round(p + (q - p) * t) for p, q in zip(a, b, strict=True))
            draw.line((0, row, WIDTH * SCALE, row), colour)
        top = bottom


def dog_on_grass(draw: ImageDraw.ImageDraw) -> None:
    _bands(draw, (0.45, "#6fae5a", "#7fbf62"), (1, "#4f9440", "#3b7c30"))
    _dog(draw, 215, 290, 5.2, "#8a5a2b")


def dog_on_snow(draw: ImageDraw.ImageDraw) -> None:
    _bands(draw, (0.4, "#c9d6e6", "#e3eaf2"), (1, "#f6f9fc", "#dfe7f0"))
    _dog(draw, 215, 290, 5.2, "#17130f")


def person_on_beach(draw: ImageDraw.ImageDraw) -> None:
    _bands(draw, (0.4, "#6db3ec", "#b8dcf5"), (0.62, "#1f6fa8", "#3c93bf"), (1, "#e0c894", "#cfb27a"))
    _person(draw, 225, 305, 5, "#c8323c", "#26364f")


def two_people_on_a_street(draw: ImageDraw.ImageDraw) -> None:
    _bands(draw, (0.66, "#8d7f78", "#a59488"), (1, "#6b6b6e", "#56565a"))
    for left in range(20, 440, 84):
        draw.rectangle((left, 30, left + 44, 96), "#2c3a4a", "#d8d2c8", 4)
        draw.rectangle((left, 126, left + 44, 192), "#2c3a4a", "#d8d2c8", 4)
    _person(draw, 165, 315, 5, "#26427a", "#1c1c22")
    _person(draw, 280, 318, 5, "#d8d8dc", "#39465c")


def skier(draw: ImageDraw.ImageDraw) -> None:
    _bands(draw, (0.35, "#3f86d6", "#8fbfee"), (1, "#ffffff", "#e4ecf5"))
    draw.polygon((0, 120, 120, 40, 230, 125), "#eef3f9")
    draw.polygon((0, 180, 448, 300, 448, 336, 0, 336), "#f4f8fc")
    _person(draw, 220, 255, 4, "#d4272f", "#1d2433")
    draw.line((150, 240, 310, 280), "#20242c", 6)
    draw.line((178, 195, 160, 250), "#30343c", 4)
    draw.line((258, 195, 292, 270), "#30343c", 4)


def ball_on_grass(draw: ImageDraw.ImageDraw) -> None:
    _bands(draw, (0.3, "#2f6b2c", "#3f7f38"), (1, "#5aa548", "#468d38"))
    _person(draw, 170, 300, 5, "#e9e9ee", "#1f3f8f")
    draw.ellipse((285, 245, 340, 300), "#fafafa", "#222222", 4)


SCENES: tuple[Callable[[ImageDraw.ImageDraw], None], ...] = (
    dog_on_grass,
    dog_on_snow,
    person_on_beach,
    two_people_on_a_street,
    skier,
    ball_on_grass,
)


def draw_pictures() -> None:
    for scene in SCENES:
        large = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE))
        scene(ImageDraw.Draw(large))
        small = large.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        small.quantize(64, dither=Image.Dither.NONE).save(
            FOLDER / f"{scene.__name__.replace('_', '-')}.png", optimize=True
        )


if __name__ == "__main__":
    if "--pictures" in sys.argv:
        draw_pictures()
    CAPTIONS.write_text(json.dumps(captions(), indent=2) + "\n", encoding="utf-8")
    print(CAPTIONS.read_text(encoding="utf-8"), end="")
