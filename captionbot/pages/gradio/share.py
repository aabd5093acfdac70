"""What a person can export: a link, pictures, numbers, and a page that opens offline."""

from __future__ import annotations

from typing import Any

import gradio as gr

from captionbot.pages.gradio import view
from captionbot.pages.gradio.events import PRIVATE, QUIET, Shown
from captionbot.pages.gradio.view import CAPTION, Seen, present
from captionbot.pages.presenters import share as says


class View(view.View):
    def build(self) -> None:
        self.address = gr.Textbox(
            label=says.LINK, info=says.LINK_HELP, interactive=False, buttons=["copy"], elem_id="address"
        )
        button = gr.Button(says.BUTTON, variant="primary")
        files = gr.File(
            label=says.EXPORT, file_count="multiple", interactive=False, visible=False, elem_id="shared"
        )
        self.frame.answer(CAPTION, files)
        with gr.Accordion(says.NUMBERS, open=False):
            self.numbers = gr.JSON(show_label=False)
        self.frame.follow(CAPTION, self.show_caption, self.numbers)
        button.click(self.on_share, self.frame.seen, files, **PRIVATE)

    def wire(self) -> None:
        self.tab.select(self.frame.on_address, self.frame.addressed, self.address, **QUIET).then(
            None,
            self.address,
            self.address,
            js="(query) => location.origin + location.pathname + query",
        )

    def on_share(self, seen: Seen | None) -> Any:
        return gr.update(visible=True, value=self.frame.keep(says.files(present(seen))))

    def show_caption(self, seen: Seen) -> Shown:
        return {self.numbers: says.numbers(seen)}
