"""Drawings as the bytes of files."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.figure import Figure


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


def gif(frames: list[Image.Image], seconds: float = 0.7) -> bytes:
    """The bytes of an endless GIF that shows each frame so long, and the last one three times as long."""
    buffer = io.BytesIO()
    milliseconds = [round(seconds * 1000)] * (len(frames) - 1) + [round(seconds * 3000)]
    first, *others = map(_with_palette, frames)
    first.save(
        buffer, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0, optimize=False
    )
    return buffer.getvalue()
