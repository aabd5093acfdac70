"""Captioners side by side: what they say, how long they take, where they look for the same word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from PIL import Image

from captionbot.draw.render import percent, sentence, word_overlay
from captionbot.pages.gradio import work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.draw import View
from captionbot.pages.gradio.view import BUSY, PICTURES, PRIVATE, QUIET, STALE, Shown, original, present
from captionbot.pages.gradio.work import FIRST_COMPARED, MODELS, MOST_COMPARED
from captionbot.pages.resident import shared_words
from captionbot.pages.turns import turn
from captionbot.types import Caption


class Compare:
    """answers: what belongs to one photo, and is hidden with the next; compared: what they were made from."""

    def __init__(self, view: gr.State, compared: gr.State) -> None:
        self.compared = compared
        with gr.Row(equal_height=True):
            self.models = gr.Dropdown(
                work.choices(""),
                value=MODELS[:FIRST_COMPARED],
                multiselect=True,
                max_choices=MOST_COMPARED,
                label=f"Captioners, 2 to {MOST_COMPARED}",
                info="One after the other, each searching as its own card says.",
                scale=3,
            )
            button = gr.Button("Compare", variant="primary", interactive=len(MODELS) > 1, elem_classes="act")
        self.table = gr.Dataframe(
            headers=["captioner", "caption", "confidence", "seconds"],
            column_widths=["24%", "29%", "27%", "20%"],
            visible=False,
            show_label=False,
            interactive=False,
            wrap=True,
        )
        self.word = gr.Dropdown([], label="Where they looked for", visible=False)
        self.pictures = gr.Gallery(
            format=PICTURES,
            visible=False,
            show_label=False,
            columns=MOST_COMPARED,
            height="auto",
            object_fit="contain",
            allow_preview=False,
        )
        self.answers = [self.table, self.word, self.pictures]
        button.click(
            self.on_compare,
            [view, self.models],
            [self.table, compared, self.word, self.pictures],
            **PRIVATE,
            **BUSY,
        )
        self.word.input(where_they_looked, [compared, self.word], self.pictures, **QUIET)

    def on_compare(self, seen: View | None, models: list[str]) -> Iterator[Shown]:
        """One captioner after the other, each shown as soon as it has spoken."""
        seen = present(seen)
        rows: list[list[Any]] = []
        found: list[tuple[str, Caption, str]] = []
        with told():
            for name in work.compared(models):
                with turn():
                    captioned, seconds = work.timed(name, original(seen))
                best = captioned.captions[0]
                rows.append(
                    [work.title(name), sentence(best.text), percent(best.confidence), f"{seconds:.2f}"]
                )
                yield {self.table: gr.update(visible=True, value=rows)}
                with turn():
                    evidence = work.evidence(name, original(seen), best)
                found.append((work.title(name), evidence.looked, evidence.label))
        shared = shared_words([[word.text for word in caption.words] for _, caption, _ in found])
        yield {
            self.compared: (seen.photo, found),
            self.word: gr.update(choices=shared, value=shared[0], visible=True),
            self.pictures: gr.update(
                visible=True, value=where_they_looked((seen.photo, found), shared[0]), columns=len(found)
            ),
        }

    def show_own(self, own: str) -> Shown:
        """A visitor's captioner beside those that are compared at first."""
        chosen = [*MODELS[:FIRST_COMPARED], own]
        return {self.models: gr.update(choices=work.choices(own), value=chosen)}


def where_they_looked(results: tuple[Image.Image, list[tuple[str, Caption, str]]] | None, word: str) -> Any:
    """The heatmap of one word by every captioner that says it."""
    if results is None:
        raise gr.Error(STALE, print_exception=False)
    picture, found = results
    pictures = []
    for name, caption, label in found:
        said = [own.text for own in caption.words]
        if word in said:
            drawn = word_overlay(picture, caption, said.index(word))
            pictures.append((drawn, f"{name}: {label}"))
        else:
            pictures.append((picture, f"{name} does not say “{word}”"))
    return pictures
