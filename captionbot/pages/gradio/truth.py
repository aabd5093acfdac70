"""Does a word rest on what its heatmap shows? The photo is hidden and shown piece by piece to find out."""

from __future__ import annotations

import gradio as gr

from captionbot.pages.gradio import view
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.view import (
    BUSY,
    CAPTION,
    PHOTO,
    PICTURES,
    PRIVATE,
    WORD,
    Seen,
    Shown,
    filled,
    lesson,
    present,
)
from captionbot.pages.presenters import truth as says
from captionbot.pages.presenters.learn import HEATMAP_TEST


class View(view.View):
    def build(self) -> None:
        gr.Markdown(says.INTRODUCTION)
        with gr.Row():
            self.button = gr.Button(says.WORD, variant="primary")
            test_all = gr.Button(says.TEST_ALL)
        self.verdict = gr.Markdown(elem_id="verdict", visible=False)
        with gr.Row(visible=False) as self.row:
            self.pictures = gr.Gallery(
                format=PICTURES,
                show_label=False,
                columns=2,
                height="auto",
                object_fit="contain",
                allow_preview=False,
                min_width=480,
            )
            with gr.Column(min_width=320):
                self.legend = gr.HTML()
                self.curves = gr.LinePlot(
                    x=says.SHARE,
                    y=says.LOG_PROB,
                    color=says.CURVE,
                    colors_in_legend=[],
                    height=320,
                    show_label=False,
                )
        self.verdicts = gr.Dataframe(interactive=False, visible=False)
        with gr.Group(visible=False) as self.measured:
            self.parts = gr.Dataframe(interactive=False)
            gr.Markdown(says.PARTS_NOTE)
        with gr.Accordion(HEATMAP_TEST.title, open=False):
            gr.Markdown(lesson(HEATMAP_TEST))
        self.frame.answer(CAPTION, self.verdict, self.row, self.verdicts)
        self.frame.answer(PHOTO, self.measured)
        self.frame.follow(PHOTO, self.show_photo, self.measured, self.parts)
        self.frame.follow(WORD, self.show_word, self.button)
        state = self.frame.seen
        outputs = [state, self.verdict, self.row, self.legend, self.curves, self.pictures]
        self.button.click(self.on_test, state, outputs, **PRIVATE, **BUSY)
        test_all.click(self.on_test_all, state, self.verdicts, **PRIVATE, **BUSY)

    def on_test(self, seen: Seen | None) -> Shown:
        """Whether the chosen word rests on its heatmap; what it misses is worked out once a caption."""
        import pandas as pd

        with told():
            seen = present(seen).with_occlusion()
            tested = says.present(seen, seen.word)
        titled = ((says.ATTENTION, tested.attention), (says.OCCLUSION, tested.occlusion))
        mark = "✔" if tested.holds else "✘"
        return {
            self.frame.seen: seen,
            self.verdict: gr.update(visible=True, value=f"### {mark} {tested.verdict}\n{tested.reason}"),
            self.row: gr.update(visible=True),
            self.legend: f"<small>{tested.legend}</small>",
            self.curves: gr.update(
                value=pd.DataFrame(tested.curves), color_map=tested.colours, title=tested.stays
            ),
            self.pictures: [
                (drawn.image, f"{title}: {drawn.text}") for title, drawn in titled if drawn is not None
            ],
        }

    def on_test_all(self, seen: Seen | None) -> Shown:
        with told():
            return {self.verdicts: filled(says.every_word(present(seen)))}

    def show_photo(self, seen: Seen) -> Shown:
        measured = says.parts_of_speech(seen)
        return {self.measured: gr.update(visible=measured is not None), self.parts: filled(measured)}

    def show_word(self, seen: Seen) -> Shown:
        return {self.button: gr.update(value=says.test(seen.words[seen.word]))}
