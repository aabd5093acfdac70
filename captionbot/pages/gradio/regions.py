"""For captioners that describe detected boxes: what was found, how much attention each word gave each box,
and what is said without some of them."""

from __future__ import annotations

import gradio as gr

from captionbot.pages.gradio import view
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.events import BUSY, PRIVATE, Shown
from captionbot.pages.gradio.view import (
    CAPTION,
    PICTURES,
    Seen,
    SideBySide,
    hidden,
    present,
)
from captionbot.pages.presenters import regions as says
from captionbot.pages.presenters.charts import html
from captionbot.types import Caption


class View(view.View):
    def build(self) -> None:
        self.none = gr.Markdown(says.NONE, visible=False)
        with gr.Column() as self.found:
            self.leaning = gr.HTML(elem_id="leaning")
            gr.Markdown(says.PICTURE)
            with gr.Row():
                self.picture = gr.AnnotatedImage(
                    label=says.PICTURE, show_label=False, height=420, elem_id="boxes", format=PICTURES
                )
                with gr.Column():
                    self.most = gr.Slider(1, 2, 2, step=1, label=says.MOST)
                    self.least = gr.Slider(0, 1, 0, step=0.05, label=says.LEAST)
                    self.kept = gr.CheckboxGroup([], label=says.BOXES, elem_id="kept")
            self.said = SideBySide(self.frame, (says.ALL, says.ALL), elem_id="without")
        outputs = [self.picture, self.leaning]
        choices = self.most, self.least, self.kept
        self.frame.follow(CAPTION, self.show_caption, self.none, self.found, *choices, *outputs)
        gr.on(
            [self.most.release, self.least.release, self.kept.input],
            self.on_regions,
            [self.frame.seen, *choices],
            [*outputs, *self.said.outputs],
            trigger_mode="always_last",
            **PRIVATE,
            **BUSY,
        )

    def on_regions(self, seen: Seen | None, most: int, least: float, kept: list[int]) -> Shown:
        """The photo captioned again from the boxes that are left."""
        seen = present(seen)
        with told():
            said, sides = says.present(seen, most, least, kept)
        return {**self.boxes(seen, said), **self.said.show(sides)}

    def boxes(self, seen: Seen, said: Caption) -> Shown:
        return {
            self.picture: says.boxed(seen.shown, said),
            self.leaning: html(says.attention(said)),
        }

    def show_caption(self, seen: Seen) -> Shown:
        """The detected boxes, or that there are none: Gradio hides no tab before it was opened."""
        if not says.applies(seen.caption):
            return {self.none: gr.update(visible=True), **hidden(self.found)}
        names = says.names(seen.caption)
        places = list(range(len(names)))
        return {
            **hidden(self.none),
            self.found: gr.update(visible=True),
            self.most: gr.update(maximum=max(len(names), 2), value=len(names)),
            self.least: 0,
            self.kept: gr.update(choices=list(zip(names, places, strict=True)), value=places),
            **self.boxes(seen, seen.caption),
        }
