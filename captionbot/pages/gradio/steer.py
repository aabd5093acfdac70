"""Change a word, and the model finishes the sentence again from there."""

from __future__ import annotations

import gradio as gr

from captionbot.pages.gradio import view
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.view import BUSY, PRIVATE, WORD, Seen, Shown, SideBySide, present
from captionbot.pages.presenters import steer as says


class View(view.View):
    def build(self) -> None:
        gr.Markdown(says.HINT)
        with gr.Row(equal_height=True):
            self.instead = gr.Textbox(label=says.TYPED, placeholder=says.TYPED_EXAMPLE, scale=3)
            self.never = gr.Checkbox(False, min_width=200)
            length = gr.Radio(says.LENGTHS, value=says.USUAL, label=says.LENGTH, scale=2, min_width=330)
            button = gr.Button(says.BUTTON, variant="primary", elem_classes="act")
        self.said = SideBySide(self.frame, says.TITLES, elem_id="steered")
        self.frame.follow(WORD, self.show_word, self.instead, self.never)
        gr.on(
            [button.click, self.instead.submit],
            self.on_steer,
            [self.frame.seen, self.instead, self.never, length],
            self.said.outputs,
            **PRIVATE,
            **BUSY,
        )

    def on_steer(self, seen: Seen | None, typed: str, never: bool, length: str) -> Shown:
        seen = present(seen)
        with told():
            sides = says.present(seen, seen.word, typed=typed, banned=never, length=length)
        return self.said.show(sides)

    def show_word(self, seen: Seen) -> Shown:
        word = seen.words[seen.word]
        return {
            self.instead: gr.update(label=says.instead_of(word)),
            self.never: gr.update(label=says.never(word)),
        }
