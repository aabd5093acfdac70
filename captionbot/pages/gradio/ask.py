"""Hide a part of the photo and caption it again: what changes rested on what is gone."""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs
from PIL import Image, ImageChops, ImageOps

from captionbot.draw.overlays import fit
from captionbot.errors import CaptionBotError
from captionbot.pages.gradio import api, view
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.settings import fitting
from captionbot.pages.gradio.view import (
    BUSY,
    BUTTONS,
    PHOTO,
    PICTURES,
    PRIVATE,
    QUIET,
    Seen,
    Shown,
    SideBySide,
    present,
)
from captionbot.pages.limits import checked_text
from captionbot.pages.presenters import ask as says
from captionbot.pages.presenters.ask import LOOKED, PAINTED, RECTANGLE

MOST_LAYERS = 4
MOST_PAINTED = 8  # visitors' paintings that are kept until they are asked for
MAX_PAINTED_PIXELS = 8_000_000


class View(view.View):
    def build(self) -> None:
        with gr.Row(equal_height=True):
            self.ways = gr.Radio([PAINTED, RECTANGLE, LOOKED], value=PAINTED, label=says.WHAT, scale=3)
            self.mode = gr.Radio([says.HIDE, says.ONLY], value=says.HIDE, label=says.DO, scale=2)
            button = gr.Button(says.BUTTON, variant="primary", elem_classes="act")
        with gr.Row():
            with gr.Column() as drawing:
                self.painting = gr.ImageEditor(
                    label=says.PAINT_HERE,
                    type="pil",
                    sources=[],
                    transforms=[],
                    layers=False,
                    brush=gr.Brush(default_size=40, colors=["#8b5cf6"], color_mode="fixed"),
                    buttons=[],
                    height=420,
                    elem_id="painting",
                )
                with gr.Group(visible=False) as rectangle:
                    self.edges = [
                        gr.Slider(0, 100, value, step=1, label=label) for label, value in says.EDGES.items()
                    ]
            with gr.Column():
                self.picture = gr.Image(
                    label=says.SHOWN, height=420, elem_id="asked", format=PICTURES, buttons=BUTTONS
                )
                self.share = gr.Markdown()
        self.blobs: OrderedDict[str, list[bytes]] = OrderedDict()
        self.painting.accept_blobs = self.keep_blob
        self.said = SideBySide(self.frame, (says.WHOLE, says.REST))
        self.frame.follow(PHOTO, self.show_photo, self.painting, self.picture, self.share)
        self.ways.change(on_way, self.ways, [drawing, self.painting, rectangle], **QUIET)
        button.click(
            self.on_ask,
            {self.frame.seen, self.ways, self.mode, self.painting, *self.edges},
            [*self.said.outputs, self.picture, self.share],
            preprocess=False,
            **PRIVATE,
            **BUSY,
        )

    def on_ask(self, values: Shown) -> Shown:
        """Hide a part of the photo, caption it again, and mark what changed."""
        seen = present(values[self.frame.seen])
        way, only = values[self.ways], values[self.mode] == says.ONLY
        with told():
            if way == PAINTED:
                layers = self.layers(values[self.painting])
                mask = painted({"layers": layers}, seen.caption.image_size, only)
                hidden = says.present_masked(seen, mask, only)
            elif way == RECTANGLE:
                box = api.checked([fitting(edge, values[edge]) / 100 for edge in self.edges])
                hidden = says.present(seen, (box,), only)
            else:
                hidden = says.present(seen, says.rests_on(seen, seen.word)[0], only)
        return {
            self.picture: hidden.picture.image,
            self.share: hidden.share,
            **self.said.show(hidden.sides),
        }

    # The browser sends what is painted by a way of its own, which in Gradio's hands knows no limits.
    @server  # type: ignore[untyped-decorator]
    def keep_blob(self, data: AcceptBlobs) -> None:
        """Keeps a layer until it is asked for: the last few, by ids that browsers make up."""
        given = getattr(data, "data", None)
        if not isinstance(given, dict) or not data.files or given.get("type") != "layer":
            return
        layers = self.blobs.setdefault(checked_text(str(given.get("id"))), [])
        if len(layers) < MOST_LAYERS:
            layers.append(data.files[0][1])
        while len(self.blobs) > MOST_PAINTED:
            self.blobs.popitem(last=False)

    def layers(self, painted: dict[str, Any] | None) -> list[Image.Image]:
        """What was painted, as images with an alpha channel."""
        given = painted or {}
        files = [layer for layer in given.get("layers") or [] if layer][:MOST_LAYERS]
        data = self.blobs.pop(given.get("id") or "", None) or [
            Path(file["path"]).read_bytes() for file in files
        ]
        return [opened(layer) for layer in data]

    def show_photo(self, seen: Seen) -> Shown:
        background = {"background": fit(seen.shown, 720), "layers": [], "composite": None}
        return {self.picture: None, self.share: "", self.painting: background}


def opened(layer: bytes) -> Image.Image:
    """A layer that a browser painted."""
    try:
        with Image.open(io.BytesIO(layer), formats=["PNG", "WEBP"]) as image:
            if image.width * image.height <= MAX_PAINTED_PIXELS:
                return image.convert("RGBA")
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise CaptionBotError("What is painted cannot be read: paint it again.") from error
    raise CaptionBotError("What is painted is larger than any page paints: paint it again.")


def on_way(way: str) -> list[Any]:
    return [gr.update(visible=visible) for visible in (way != LOOKED, way == PAINTED, way == RECTANGLE)]


def painted(value: dict[str, Any] | None, size: tuple[int, int], others: bool) -> Image.Image:
    """What was painted over, as a mask (mode L) of the photo."""
    mask = Image.new("L", size)
    for layer in (value or {}).get("layers", []):
        mask = ImageChops.lighter(mask, layer.getchannel("A").resize(size))
    if not np.asarray(mask).any():
        raise CaptionBotError(says.NOTHING)
    mask = mask.point([0] * 128 + [255] * 128)
    return ImageOps.invert(mask) if others else mask
