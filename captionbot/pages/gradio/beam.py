"""The beam search as a tree, and the sentences that it finished."""

from __future__ import annotations

import gradio as gr

from captionbot.pages.gradio import draw
from captionbot.pages.gradio.draw import View
from captionbot.pages.gradio.view import PRIVATE, Shown, present


class Beam:
    def __init__(self, view: gr.State) -> None:
        gr.Markdown(
            "All that the search kept, from left to right, the winner in colour. Rest on a word to read "
            "what became of it."
        )
        cut = gr.Checkbox(False, label="Also what was cut at once")
        self.tree = gr.HTML(elem_id="beam")
        self.finished = gr.Dataframe(
            headers=["sentence", "score", "log-prob", "word evidence", "lost because"],
            label="The sentences that were finished; the score is log-prob and word evidence (what the "
            "photo as a whole says for the words), divided by the length to the power of its penalty",
            interactive=False,
            wrap=True,
        )
        with gr.Accordion("How beam search works", open=False):
            self.lesson = gr.Markdown()
        self.photo_outputs = [self.tree, self.finished, self.lesson]
        cut.input(self.on_tree, [view, cut], self.tree, **PRIVATE)

    def on_tree(self, seen: View | None, cut: bool) -> str:
        return draw.beam(present(seen), cut)

    def show_photo(self, seen: View) -> Shown:
        return {
            self.tree: draw.beam(seen, False),
            self.finished: draw.finished(seen),
            self.lesson: draw.about_beam(seen),
        }
