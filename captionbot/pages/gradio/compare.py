"""Captioners side by side: what they say, how long they take, where they look for the same word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from PIL import Image

from captionbot.pages.gradio import view, work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.view import (
    BUSY,
    CACHE_SECONDS,
    CAPTIONER,
    PHOTO,
    PICTURES,
    PRIVATE,
    QUIET,
    Seen,
    Shown,
    filled,
    present,
)
from captionbot.pages.gradio.work import WORK
from captionbot.pages.presenters import compare as says
from captionbot.pages.presenters.compare import Answer


class View(view.View):
    def build(self) -> None:
        names = work.names()
        self.compared = gr.State(time_to_live=CACHE_SECONDS)  # the photo, and what was said of it
        with gr.Row(equal_height=True):
            self.models = gr.Dropdown(
                work.choices(""),
                value=names[: says.FIRST],
                multiselect=True,
                max_choices=says.MOST,
                label=says.CAPTIONERS,
                info=says.CAPTIONERS_HELP,
                scale=3,
            )
            button = gr.Button(
                says.BUTTON, variant="primary", interactive=len(names) >= says.LEAST, elem_classes="act"
            )
        self.table = gr.Dataframe(
            visible=False,
            show_label=False,
            interactive=False,
            wrap=True,
        )
        self.word = gr.Dropdown([], label=says.WORD, visible=False)
        self.pictures = gr.Gallery(
            format=PICTURES,
            visible=False,
            show_label=False,
            columns=says.MOST,
            height="auto",
            object_fit="contain",
            allow_preview=False,
        )
        answers = [self.table, self.word, self.pictures]
        self.frame.answer(PHOTO, *answers)
        self.frame.follow(CAPTIONER, self.show_own, self.models)
        outputs = [*answers, self.compared]
        button.click(self.on_compare, [self.frame.seen, self.models], outputs, **PRIVATE, **BUSY)
        self.word.input(pictures, [self.compared, self.word], self.pictures, **QUIET)

    def on_compare(self, seen: Seen | None, models: list[str]) -> Iterator[Shown]:
        """One captioner after the other, each shown as soon as it has spoken."""
        seen = present(seen)
        answers: list[Answer] = []
        with told():
            named = says.to_compare(WORK, [work.known(model) for model in models])
            for answer in says.present(seen, named):
                answers.append(answer)
                yield {self.table: filled(says.table(answers))}
        words = says.shared_words([answer.words for answer in answers])
        compared = seen.shown, answers
        yield {
            self.compared: compared,
            self.word: gr.update(choices=words, value=words[0], visible=True),
            self.pictures: gr.update(visible=True, value=pictures(compared, words[0]), columns=len(answers)),
        }

    def show_own(self, own: str) -> Shown:
        """A visitor's captioner beside those that are compared at first."""
        chosen = [*work.names()[: says.FIRST], own]
        return {self.models: gr.update(choices=work.choices(own), value=chosen)}


def pictures(compared: tuple[Image.Image, list[Answer]] | None, word: str) -> Any:
    """The heatmap of one word by every captioner that says it."""
    if compared is None:
        raise gr.Error(work.STALE, print_exception=False)
    shown, answers = compared
    return [tuple(answer.picture(shown, word)) for answer in answers]
