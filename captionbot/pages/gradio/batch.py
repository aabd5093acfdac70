"""Many photos at once: files or a .zip in, a table and files to take along out."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from captionbot import CaptionBotError
from captionbot.pages.gradio import draw, work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.settings import Settings
from captionbot.pages.gradio.view import LONG, PRIVATE, Shown
from captionbot.pages.limits import PHOTOS_AT_ONCE


class Batch:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.files = gr.File(
            label="Photos, or .zip files of them",
            file_count="multiple",
            file_types=["image", ".zip"],
            elem_id="files",
        )
        button = gr.Button("Caption them all", variant="primary")
        self.note = gr.Markdown()
        self.table = gr.Dataframe(
            visible=False,
            headers=["photo", "name", "caption", "confidence"],
            datatype=["html", "str", "str", "str"],
            column_widths=["16%", "20%", "38%", "26%"],
            show_label=False,
            interactive=False,
            wrap=True,
            elem_id="many",
        )
        self.written = gr.File(label="CSV, JSONL, one .txt a photo", file_count="multiple", interactive=False)
        button.click(
            self.on_batch,
            {self.files, *settings.controls.values()},
            [self.note, self.table, self.written],
            preprocess=False,
            **PRIVATE,
            **LONG,
        )

    def on_batch(self, values: Shown) -> Iterator[Shown]:
        """The table as it grows, then the files to take along."""
        files = values[self.files]
        if not files:
            raise gr.Error("There are no photos yet: upload some, or a .zip of them.", print_exception=False)
        results, rows = [], []
        with told():
            model, options, prefix, banned = self.settings.chosen(values)
            paths = [file["path"] for file in files]
            for result, thumbnail in work.caption_files(model, paths, options, prefix, banned):
                results.append(result)
                rows.append(draw.batch_row(result, thumbnail))
                if len(rows) % PHOTOS_AT_ONCE == 0:
                    yield {
                        self.note: f"{len(rows)} photos so far…",
                        self.table: gr.update(visible=True, value=rows),
                    }
        bad = sum(isinstance(found, CaptionBotError) for _, found in results)
        yield {
            self.note: f"{len(results) - bad} captioned, {bad} could not be read.",
            self.table: gr.update(visible=True, value=rows),
            self.written: draw.batch_files(results, model),
        }
