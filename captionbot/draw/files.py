"""Drawings as the bytes of files."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.figure import Figure

CLIP = 5.0  # seconds of an animation


def png(picture: Figure | Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    if isinstance(picture, Image.Image):
        picture.save(buffer, "PNG")
    else:
        picture.savefig(buffer, format="png")
    return buffer.getvalue()


def svg(picture: Figure) -> str:
    """The SVG of a drawing of `plots`, without a ground, its ink dark or light as the page around it."""
    from captionbot.draw.plots import INK

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    picture.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    head, body = text[text.index("<svg") :].split(">", 1)
    ink = f"<style>svg{{color:{INK}}}@media (prefers-color-scheme:dark){{svg{{color:#eceef5}}}}</style>"
    return f"{head}>{ink}{body.replace(INK, 'currentColor')}"


@cache
def text_beside(module: str, suffix: str) -> str:
    """What the file with a module's name and another suffix says: its part that runs in a browser."""
    return Path(module).with_suffix(suffix).read_text(encoding="utf-8")


def data_url(image: Image.Image | str) -> str:
    """The image as a JPEG, or the text of an SVG, inside an address, for pages that ask no server for it."""
    if isinstance(image, str):
        return f"data:image/svg+xml;base64,{base64.b64encode(image.encode()).decode()}"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _with_palette(frame: Image.Image) -> Image.Image:
    """A frame of 256 colours of its own, dithered. Pillow's own choice of them takes far longer."""
    return frame.quantize(palette=frame.quantize(256, Image.Quantize.FASTOCTREE))


def gif(frames: list[Image.Image], seconds: float | None = None) -> bytes:
    """The bytes of an endless GIF that shows each frame so long, and the last one three times as long.

    seconds: of a frame; None: the whole of it takes `CLIP` seconds.
    """
    return _animated("GIF", list(map(_with_palette, frames)), seconds, optimize=False)


def webp(frames: list[Image.Image], seconds: float | None = None) -> bytes:
    """The same as WebP, in all colours: a third of the size or less."""
    return _animated("WEBP", frames, seconds, quality=80, method=2)


def _animated(form: str, frames: list[Image.Image], seconds: float | None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    each = 1000 * (CLIP / (len(frames) + 2) if seconds is None else seconds)
    milliseconds = [round(each)] * (len(frames) - 1) + [round(3 * each)]
    frames[0].save(
        buffer, form, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **options
    )
    return buffer.getvalue()
