"""What each word needs of the photo: pieces of it are hidden to find out, and the maps are tested."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from captionbot.explain.needs import Needs
from captionbot.pages.gradio import view
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.events import BUSY, PRIVATE, QUIET, Shown
from captionbot.pages.gradio.view import (
    CAPTION,
    PHOTO,
    PICTURES,
    Seen,
    filled,
    lesson,
    present,
)
from captionbot.pages.presenters import truth as says
from captionbot.pages.presenters.charts import html
from captionbot.pages.presenters.learn import HEATMAP_TEST
from captionbot.text.display import plain
from captionbot.types import Caption


class View(view.View):
    def build(self) -> None:
        gr.Markdown(says.INTRODUCTION)
        with gr.Row():
            self.frame.heroes.choose()
            self.button = gr.Button(says.RUN, variant="primary", elem_classes="act")
            self.sentence = gr.Textbox(label=says.SENTENCE, placeholder=says.SENTENCE_HELP, max_length=1000)
        self.marked = gr.HTML(visible=False)
        self.verdict = gr.Markdown(elem_id="verdict", visible=False)
        with gr.Row(visible=False) as self.row:
            self.pictures = gr.Gallery(
                format=PICTURES,
                show_label=False,
                columns=3,
                height="auto",
                object_fit="contain",
                allow_preview=False,
                min_width=480,
            )
            with gr.Column(min_width=320):
                self.plot = gr.BarPlot(
                    x=says.AGREEMENT,
                    y=says.COUNT,
                    color=says.KIND,
                    color_map=says.COLOURS,
                    x_lim=[-1, 1],
                    height=240,
                    show_label=False,
                )
                self.plotted = gr.Markdown()
        self.verdicts = gr.Dataframe(interactive=False, visible=False, wrap=True)
        self.measured = gr.HTML(visible=False)
        with gr.Accordion(HEATMAP_TEST.title, open=False):
            gr.Markdown(lesson(HEATMAP_TEST))
        self.frame.answer(CAPTION, self.marked, self.verdict, self.row, self.verdicts)
        self.frame.answer(PHOTO, self.measured)
        self.frame.follow(PHOTO, self.show_photo, self.measured)
        self.answers = [self.marked, self.verdict, self.row, self.pictures, self.plot, self.plotted]
        outputs = [*self.answers, self.verdicts]
        state = [self.frame.seen, self.sentence]
        tested = gr.on(
            [self.button.click, self.sentence.submit], self.on_test, state, outputs, **PRIVATE, **BUSY
        )
        heroes = self.frame.heroes  # which show what is found from then on
        tested.success(heroes.show_sentence, self.frame.seen, heroes.sentence, **QUIET)

    def on_test(self, seen: Seen | None, text: Any = "") -> Iterator[Shown]:
        """What the words of the caption need, or those of a sentence of the visitor's own, coarse to fine."""
        with told():
            seen = present(seen)
            own = seen.work.sentence(seen.asked, text) if isinstance(text, str) and text.strip() else None
            for found in says.stages(seen, own):
                yield self.show_found(seen, found, own)

    def show_found(self, seen: Seen, found: Needs, own: Caption | None) -> Shown:
        import pandas as pd

        t = min(seen.word, len(found.words) - 1)
        said = says.word(seen, found, t, own)
        verdict = f"### {plain(said.verdict)}\n**{said.change}** {plain(said.reason)}"
        titled = ((says.NEEDED, said.needed), (says.LOOKED, said.looked), (says.HIDDEN, said.hidden))
        return {
            self.marked: gr.update(visible=True, value=says.marked_html(found)),
            self.verdict: gr.update(visible=True, value=verdict if found.done else says.progress(found)),
            self.row: gr.update(visible=True),
            self.pictures: [
                (drawn.image, f"{title}: {drawn.text}") for title, drawn in titled if drawn is not None
            ],
            self.plot: pd.DataFrame(said.chance),
            self.plotted: plain(said.plot),
            self.verdicts: filled(says.every_word(found) if found.done else None),
        }

    def show_photo(self, seen: Seen) -> Shown:
        measured = says.parts_of_speech(seen)
        value = html(measured) if measured else ""
        return {self.measured: gr.update(visible=measured is not None, value=value)}
