"""The beam search as a tree, and the sentences that it finished."""

from __future__ import annotations

import gradio as gr

from captionbot.pages.gradio import view
from captionbot.pages.gradio.view import PHOTO, PRIVATE, Seen, Shown, filled, lesson, present
from captionbot.pages.presenters import beam as says
from captionbot.pages.presenters import learn


class View(view.View):
    def build(self) -> None:
        gr.Markdown(f"{says.INTRODUCTION} {says.HINT}")
        cut = gr.Checkbox(False, label=says.CUT, info=says.CUT_HELP)
        self.tree = gr.HTML(elem_id="beam")
        self.finished = gr.Dataframe(
            headers=[column.title for column in says.COLUMNS],
            column_widths=["34%", "10%", "11%", "15%", "13%", "17%"],
            interactive=False,
            wrap=True,
        )
        gr.Markdown(says.NOTE)
        with gr.Accordion(learn.BEAM, open=False):
            self.lesson = gr.Markdown()
        self.frame.follow(PHOTO, self.show_photo, self.tree, self.finished, self.lesson)
        cut.input(self.on_tree, [self.frame.seen, cut], self.tree, **PRIVATE)

    def on_tree(self, seen: Seen | None, cut: bool) -> str:
        tree = says.tree(present(seen), cut)
        return f'<div class="tree" tabindex="0">{tree}</div>' if tree else says.SAMPLING

    def show_photo(self, seen: Seen) -> Shown:
        about = learn.beam(seen)
        return {
            self.tree: self.on_tree(seen, False),
            self.finished: filled(says.finished(seen)),
            self.lesson: lesson(about) if about else says.SAMPLING,
        }
