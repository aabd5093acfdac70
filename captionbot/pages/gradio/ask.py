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

from captionbot import CaptionBotError
from captionbot.draw.render import fit
from captionbot.explain import counterfactuals as explore
from captionbot.pages.gradio import api, work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.draw import View
from captionbot.pages.gradio.settings import fitting
from captionbot.pages.gradio.view import (
    BUSY,
    BUTTONS,
    PICTURES,
    PRIVATE,
    QUIET,
    Shown,
    SideBySide,
    original,
    present,
)
from captionbot.pages.limits import checked_text
from captionbot.pages.turns import turn

MOST_LAYERS = 4
MOST_PAINTED = 8  # visitors' paintings that are kept until they are asked for
MAX_PAINTED_PIXELS = 8_000_000
PAINTED, RECTANGLE, LOOKED = "What I paint over", "A rectangle", "What the chosen word rests on"


class Ask:
    def __init__(self, view: gr.State) -> None:
        self.view = view
        with gr.Row(equal_height=True):
            self.ways = gr.Radio([PAINTED, RECTANGLE, LOOKED], value=PAINTED, label="Hide", scale=3)
            self.only = gr.Checkbox(False, label="Show only that instead", min_width=220)
            button = gr.Button("Caption it again", variant="primary", elem_classes="act")
        with gr.Row():
            with gr.Column() as drawing:
                self.painting = gr.ImageEditor(
                    label="Paint here",
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
                        gr.Slider(0, 100, value, step=1, label=f"{edge}, %")
                        for edge, value in (("Left", 30), ("Top", 30), ("Right", 70), ("Bottom", 70))
                    ]
            with gr.Column():
                self.picture = gr.Image(
                    label="What the model is shown",
                    height=420,
                    elem_id="asked",
                    format=PICTURES,
                    buttons=BUTTONS,
                )
        self.blobs: OrderedDict[str, list[bytes]] = OrderedDict()
        self.painting.accept_blobs = self.keep_blob
        self.said = SideBySide("The whole photo", "With that hidden")
        self.photo_outputs = [self.painting, self.picture]
        self.ways.change(on_way, self.ways, [drawing, self.painting, rectangle], **QUIET)
        button.click(
            self.on_ask,
            {view, self.ways, self.only, self.painting, *self.edges},
            [*self.said.outputs, self.picture],
            preprocess=False,
            **PRIVATE,
            **BUSY,
        )

    def on_ask(self, values: Shown) -> Shown:
        """Hide a part of the photo, caption it again, and mark what changed."""
        seen = present(values[self.view])
        way, others = values[self.ways], values[self.only]
        with told(), turn():
            asked = original(seen)
            if way == PAINTED:
                layers = self.layers(values[self.painting])
                asked = explore.hide(asked, painted({"layers": layers}, asked.size, others))
            elif way == RECTANGLE:
                box = [fitting(edge, values[edge]) / 100 for edge in self.edges]
                asked = work.hidden(asked, [api.checked(box)], others)
            else:
                asked = work.hidden(asked, work.boxes_looked_at(seen.looked, seen.t), others)
            after = work.ask(seen.model, asked, seen.options, seen.prefix, seen.banned)
        return {self.picture: fit(asked), **self.said.show(seen.captioned.captions[0], after)}

    # The browser sends what is painted by a way of its own, which in Gradio's hands knows no limits.
    @server
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

    def show_photo(self, seen: View, image: Image.Image) -> Shown:
        """image: the photo at its own size."""
        return {
            self.picture: None,
            self.painting: {"background": fit(image, 720), "layers": [], "composite": None},
        }


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
        raise CaptionBotError("Nothing is painted yet: paint over a part of the photo first.")
    mask = mask.point([0] * 128 + [255] * 128)
    return ImageOps.invert(mask) if others else mask
