"""For captioners that describe detected boxes: what was found, which word leaned on which box, and what is
said without some of them."""

from __future__ import annotations

import gradio as gr
import numpy as np

from captionbot.pages.gradio import draw, work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.draw import View
from captionbot.pages.gradio.view import BUSY, PICTURES, PRIVATE, Shown, SideBySide, hidden, original, present
from captionbot.pages.turns import turn


class Regions:
    def __init__(self, tab: gr.Tab, view: gr.State) -> None:
        self.tab = tab
        with gr.Row():
            self.picture = gr.AnnotatedImage(
                label="What the detector found; rest on a name to see its box",
                height=420,
                elem_id="boxes",
                format=PICTURES,
            )
            with gr.Column():
                self.most = gr.Slider(1, 2, 2, step=1, label="Boxes at most")
                self.least = gr.Slider(0, 1, 0, step=0.05, label="Score at least")
                self.kept = gr.CheckboxGroup(
                    [],
                    label="Boxes",
                    info="Untick one: the photo is captioned again without it.",
                    elem_id="kept",
                )
        self.said = SideBySide("With all boxes", "With those that are left", elem_id="without")
        self.leaning = gr.Dataframe(
            label="Which word leaned on which box: how much of its attention every box got, in %",
            interactive=False,
            elem_id="leaning",
        )
        outputs = [self.picture, self.leaning, *self.said.outputs]
        self.caption_outputs = [self.tab, self.most, self.least, self.kept, *outputs]
        gr.on(
            [self.most.release, self.least.release, self.kept.input],
            self.on_regions,
            [view, self.most, self.least, self.kept],
            outputs,
            trigger_mode="always_last",
            **PRIVATE,
            **BUSY,
        )

    def on_regions(self, seen: View | None, most: int, least: float, kept: list[int]) -> Shown:
        """The photo captioned again from the boxes that are left."""
        seen = present(seen)
        caption = seen.caption
        scores = np.ones(len(caption.boxes)) if caption.scores is None else caption.scores
        gone = [p for p in range(len(scores)) if p >= most or p not in kept or scores[p] < least]
        said = caption
        if gone:
            with told(), turn():
                said = work.ask(seen.model, original(seen), seen.options, seen.prefix, seen.banned, gone)
        return {
            self.picture: draw.boxed(seen.photo, said),
            self.leaning: draw.leaning(said),
            **self.said.show(caption, said),
        }

    def show_caption(self, seen: View) -> Shown:
        """The detected boxes; captioners without a detector do not have this view."""
        caption = seen.caption
        if not draw.has_boxes(caption):
            return hidden(self.tab)
        boxes = [(text, place) for place, text in enumerate(draw.box_names(caption))]
        many = len(boxes)
        return {
            self.tab: gr.update(visible=True),
            self.most: gr.update(maximum=max(many, 2), value=many),
            self.least: 0,
            self.kept: gr.update(choices=boxes, value=[place for _, place in boxes]),
            self.picture: draw.boxed(seen.photo, caption),
            self.leaning: draw.leaning(caption),
            **hidden(*self.said.answers),
        }
