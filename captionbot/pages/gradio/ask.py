"""Hide a part of the photo and caption it again: what changes rested on what is gone."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageChops, ImageOps

from captionbot import CaptionBotError
from captionbot.draw.render import fit
from captionbot.explain import counterfactuals as explore
from captionbot.pages.gradio import api, work
from captionbot.pages.gradio.draw import View
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
from captionbot.pages.gradio.work import told

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
        self.said = SideBySide("The whole photo", "With that hidden")
        self.photo_outputs = [self.painting, self.picture]
        self.ways.change(on_way, self.ways, [drawing, self.painting, rectangle], **QUIET)
        button.click(
            self.on_ask,
            {view, self.ways, self.only, self.painting, *self.edges},
            [*self.said.outputs, self.picture],
            **PRIVATE,
            **BUSY,
        )

    def on_ask(self, values: Shown) -> Shown:
        """Hide a part of the photo, caption it again, and mark what changed."""
        seen = present(values[self.view])
        asked, way, others = original(seen), values[self.ways], values[self.only]
        with told():
            if way == PAINTED:
                asked = explore.hide(asked, painted(values[self.painting], asked.size, others))
            elif way == RECTANGLE:
                box = [values[edge] / 100 for edge in self.edges]
                asked = work.hidden(asked, [api.checked(box)], others)
            else:
                asked = work.hidden(asked, work.boxes_looked_at(seen.looked, seen.t), others)
            after = work.ask(seen.model, asked, seen.options, seen.prefix, seen.banned)
        return {self.picture: fit(asked), **self.said.show(seen.captioned.captions[0], after)}

    def show_photo(self, seen: View, image: Image.Image) -> Shown:
        """image: the photo at its own size."""
        return {
            self.picture: None,
            self.painting: {"background": fit(image, 720), "layers": [], "composite": None},
        }


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
