"""What a person can take along: a link, pictures, numbers, and a page that opens offline."""

from __future__ import annotations

import gradio as gr

from captionbot.pages.gradio import draw
from captionbot.pages.gradio.draw import View
from captionbot.pages.gradio.view import PRIVATE, Shown, present


class Share:
    def __init__(self, view: gr.State) -> None:
        self.address = gr.Textbox(
            label="Link",
            info="It restores the captioner and every setting, and the photo too where that is a sample "
            "or came from an address. Photos of your own are not kept, so they cannot be linked to.",
            interactive=False,
            buttons=["copy"],
            elem_id="address",
        )
        button = gr.Button("Make the files", variant="primary")
        files = gr.File(
            label="A page that opens offline, every word as PNG and GIF, captions and attention as JSON",
            file_count="multiple",
            interactive=False,
            elem_id="shared",
        )
        with gr.Accordion("JSON", open=False):
            self.numbers = gr.JSON(show_label=False)
        self.caption_outputs = [self.numbers]
        button.click(on_share, view, files, **PRIVATE)

    def show_caption(self, seen: View) -> Shown:
        return {self.numbers: draw.numbers(seen)}


def on_share(seen: View | None) -> list[str]:
    return draw.share_files(present(seen))
