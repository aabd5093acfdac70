"""Decoded images of any mode as upright RGB of 8 bits, a strip at a time: no copy but the one handed out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

_STRIP = 1_000_000  # pixels that are converted at a time
_TURNS = {  # how to undo each of the EXIF orientations
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BIT_DEPTHS = [2**bits - 1 for bits in (1, 8, 10, 12, 14, 16)]
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_HIGHEST = 258, 262, 281


def to_rgb(image: Image.Image, factor: int = 1, depth: int | None = None) -> Image.Image:
    """A loaded image as RGB, transparency on white.

    factor: how many times smaller, each pixel the mean of factor x factor.
    depth: bits of each sample that its decoder kept only the highest 8 of, None where it kept all.
    """
    convert = _converter(image, depth)
    if image.width * image.height <= _STRIP:
        return _reduced(convert(image), factor)
    width, height = (-(-side // factor) for side in image.size)
    canvas = Image.new("RGB", (width, height))
    for top, strip in _strips(image, factor):
        canvas.paste(_reduced(convert(strip), factor), (0, top // factor))
    return canvas


def turned(image: Image.Image, orientation: int | None) -> Image.Image:
    """The image turned upright from an EXIF orientation, itself where that is none of 2 to 8."""
    turn = None if orientation is None else _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    return image if factor == 1 else image.reduce(factor)


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Rows of the image and where they begin, as many as a multiple of the factor."""
    rows = max(1, _STRIP // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converter(image: Image.Image, depth: int | None) -> Callable[[Image.Image], Image.Image]:
    """What makes RGB of a strip of the image."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        low, high = _range(image)
        tags = getattr(image, "tag_v2", {})
        if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is zero, which Pillow heeds up to 8 bits only
            low, high = high, low
        return lambda strip: _eight_bits(strip, low, high)
    if image.has_transparency_data:
        return _on_white
    if image.mode == "LAB":
        return _from_lab()
    if depth == 16 and image.mode in ("RGB", "RGBX"):
        return _brightened(image)
    return lambda strip: strip.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    layer = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(layer, mask=layer.getchannel("A"))
    return canvas


def _from_lab() -> Callable[[Image.Image], Image.Image]:
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(lab, rgb, "LAB", "RGB")

    def convert(strip: Image.Image) -> Image.Image:
        made = ImageCms.applyTransform(strip, transform)
        assert made is not None
        return made

    return convert


def _brightened(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Colours of 10 to 14 bits in 16, of which Pillow keeps the highest 8: nearly all of them zeros."""
    extrema: tuple[tuple[int, int], ...] = image.getextrema()  # type: ignore[assignment]
    highest = max(high for _, high in extrema[:3])
    top = next(top for top in (3, 15, 63, 255) if highest <= top)
    levels = [min(255, round(255 * value / top)) for value in range(256)] * 3
    return lambda strip: strip.convert("RGB").point(levels)


def _range(image: Image.Image) -> tuple[float, float]:
    """The values that become black and white: the file's bit depth where it says so, else of the values.

    That is the smallest of 0..1 and 8, 10, 12, 14 and 16 bits that holds all of them: cameras, microscopes
    and X-rays store 10 to 14 bits in 16. Where none does, it is from the lowest value to the highest.
    """
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = _values(strip)
        low, high = min(low, values.min()), max(high, values.max())
    if low < 0 or high > _BIT_DEPTHS[-1]:
        return float(low), float(high)
    told = _told_depth(image)
    return 0.0, float(next(top for top in (told, *_BIT_DEPTHS) if high <= top))


def _told_depth(image: Image.Image) -> int:
    """The highest value that a TIFF says it may hold, 0 where it does not say."""
    tags = getattr(image, "tag_v2", {})
    bits, highest = (tags.get(tag) or 0 for tag in (_TIFF_BITS, _TIFF_HIGHEST))
    told = highest or (2 ** bits[0] - 1 if isinstance(bits, tuple) and bits[0] == 12 else 0)
    if isinstance(told, tuple):
        told = told[0]
    return int(told) if 1 < told <= _BIT_DEPTHS[-1] else 0


def _values(strip: Image.Image) -> np.ndarray:
    values = np.asarray(strip)
    return np.nan_to_num(values, posinf=0.0, neginf=0.0) if values.dtype.kind == "f" else values


def _eight_bits(strip: Image.Image, black: float, white: float) -> Image.Image:
    """Grey of 16 bits, 32 bits or floats. Pillow's `convert` clips at 255: photos turn white."""
    values = _values(strip).astype(np.float64)
    scale = 255 / (white - black) if white != black else 0.0
    return Image.fromarray(np.rint((values - black) * scale).clip(0, 255).astype(np.uint8)).convert("RGB")
