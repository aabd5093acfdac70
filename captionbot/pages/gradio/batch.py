"""Many photos at once: files or a .zip in, a table and files to take away out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from captionbot.pages.gradio import view, work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.view import LONG, PRIVATE, Shown
from captionbot.pages.gradio.work import WORK
from captionbot.pages.limits import PHOTOS_AT_ONCE
from captionbot.pages.presenters import batch as says
from captionbot.pages.presenters.batch import Captioned


class View(view.View):
    def build(self) -> None:
        gr.Markdown(says.INTRODUCTION)
        self.files = gr.File(
            label=says.FILES, file_count="multiple", file_types=["image", ".zip"], elem_id="files"
        )
        button = gr.Button(says.button(), variant="primary")
        self.note = gr.Markdown()
        self.table = gr.Dataframe(
            visible=False,
            datatype=["html", *["str"] * 6],
            show_label=False,
            interactive=False,
            wrap=True,
            elem_id="many",
        )
        self.written = gr.File(label=says.WRITTEN, file_count="multiple", interactive=False)
        button.click(
            self.on_batch,
            {self.files, *self.frame.settings.controls.values()},
            [self.note, self.table, self.written],
            preprocess=False,
            **PRIVATE,
            **LONG,
        )

    def on_batch(self, values: Shown) -> Iterator[Shown]:
        """The table as it grows, then the files to take away."""
        files = values[self.files]
        if not files:
            raise gr.Error(says.NONE, print_exception=False)
        done: list[Captioned] = []
        with told():
            settings = self.frame.settings.chosen(values)
            for captioned in work.caption_files([file["path"] for file in files], settings):
                done.append(captioned)
                if len(done) % PHOTOS_AT_ONCE == 0:
                    yield {self.note: says.so_far(len(done)), self.table: table(done)}
        yield {
            self.note: says.note(done),
            self.table: table(done),
            self.written: self.frame.keep(says.files(done, WORK.public(settings.model))),
        }


def table(done: list[Captioned]) -> Any:
    """The photos as small pictures, which are HTML."""
    found = says.table(done)
    rows = [[f'<img src="{photo}" alt="">' if photo else "", *row] for photo, *row in found.written]
    return gr.update(visible=True, headers=found.titles, value=rows)
