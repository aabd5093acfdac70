"""The beam search as a tree, and the sentences that it finished."""

from __future__ import annotations

from typing import Any

import gradio as gr

from captionbot.pages.gradio import canvas, view
from captionbot.pages.gradio.events import PRIVATE, Shown
from captionbot.pages.gradio.view import PHOTO, Seen, filled, lesson, present
from captionbot.pages.presenters import beam as says
from captionbot.pages.presenters import learn


class View(view.View):
    def build(self) -> None:
        gr.Markdown(says.INTRODUCTION)
        cut = gr.Checkbox(False, label=says.CUT, info=says.CUT_HELP)
        self.tree = canvas.part("beam")
        self.finished = gr.Dataframe(
            headers=[column.title for column in says.COLUMNS],
            column_widths=["34%", "10%", "11%", "15%", "13%", "17%"],
            interactive=False,
            wrap=True,
        )
        self.note = gr.Markdown(says.NOTE)
        with gr.Accordion(learn.BEAM, open=False):
            self.lesson = gr.Markdown()
        self.frame.follow(PHOTO, self.show_photo, self.tree, self.finished, self.note, self.lesson)
        cut.input(self.on_tree, [self.frame.seen, cut], self.tree, **PRIVATE)

    def on_tree(self, seen: Seen | None, cut: bool) -> dict[str, Any]:
        return says.drawn(present(seen), cut)

    def show_photo(self, seen: Seen) -> Shown:
        about = learn.beam(seen)
        return {
            self.tree: self.on_tree(seen, False),
            self.finished: filled(says.finished(seen) if seen.expert else None),
            self.note: gr.update(visible=seen.expert),
            self.lesson: lesson(about) if about else says.SAMPLING,
        }
