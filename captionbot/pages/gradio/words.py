"""The caption beside the photo, and the others that can be chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from captionbot.pages.gradio import canvas, view
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.events import BUSY, QUIET, Shown
from captionbot.pages.gradio.view import (
    CAPTION,
    WORD,
    Frame,
    Seen,
    chosen,
    filled,
    lesson,
    present,
)
from captionbot.pages.gradio.work import WORK
from captionbot.pages.presenters import canvas as says_canvas
from captionbot.pages.presenters import learn
from captionbot.pages.presenters import words as says
from captionbot.pages.presenters.canvas import Touched
from captionbot.pages.presenters.judgement import band
from captionbot.pages.presenters.seen import measures
from captionbot.text.display import plain


class Heroes:
    """The best caption beside the photo. headline: the same as a heading, for screen readers, or why there is
    none; photo: the canvas, which the page has made."""

    def __init__(self, frame: Frame, photo: gr.HTML) -> None:
        self.frame, self.photo = frame, photo
        self.headline = gr.Markdown(elem_id="headline")
        self.sentence = canvas.part("sentence")
        frame.follow(CAPTION, self.show_caption, self.headline, self.sentence, photo)

    def choose(self) -> None:
        """The word that views are about."""
        self.word = gr.Dropdown([], label=says.CHOSEN, min_width=140)
        self.frame.follow(WORD, self.show_word, self.word)

    def wire(self) -> None:
        state, outputs = self.frame.seen, self.frame.outputs(WORD)
        self.word.input(self.on_chosen, [state, self.word], outputs, **QUIET)
        for part in (self.sentence, self.photo):
            part.did(self.on_did, state, self.frame.outputs(CAPTION), **QUIET, **BUSY)

    def on_did(self, seen: Seen | None, event: gr.EventData) -> Any:
        """What a visitor did to the photo or its sentence; other photos are the page's."""
        with told():
            name, value = canvas.told_of(self.frame.demo, event)
            if name in canvas.SOURCES:
                return gr.skip()
            seen = present(seen)
            touched = seen.touched.after(name, value, seen)
            after = says_canvas.after(seen.base, touched)
            evidence = WORK.evidence(after.asked, after.caption)
        whole = seen.base if touched != Touched() else None
        return self.frame.show(CAPTION, replace(after, evidence=evidence, touched=touched, whole=whole))

    def on_chosen(self, seen: Seen | None, t: Any) -> Shown:
        seen = present(seen)
        return self.frame.show(WORD, replace(seen, t=chosen(t, seen.words)))

    def show_sentence(self, seen: Seen | None) -> Any:
        seen = present(seen)
        before = seen.base.captioned.captions[0] if seen.whole else None
        return says_canvas.words(seen, before, seen.touched, seen.expert)

    def show_caption(self, seen: Seen) -> Shown:
        judged = band(seen.caption, WORK.captioners())
        title = f"## {plain(judged.sentence)}"
        if seen.expert:
            title += f"\n{measures(seen.caption)}"
        return {
            self.headline: title,
            self.sentence: self.show_sentence(seen),
            self.photo: says_canvas.photo(seen.base, seen.touched, **says_canvas.sources("")),
        }

    def show_word(self, seen: Seen) -> Shown:
        return {self.word: gr.update(choices=says.numbered(seen.caption), value=seen.t)}


class View(view.View):
    def build(self) -> None:
        self.table = gr.Dataframe(
            headers=[column.title for column in says.COLUMNS],
            label=says.CAPTIONS,
            interactive=False,
            wrap=True,
            elem_id="captions",
        )
        with gr.Accordion(learn.ATTENTION, open=False):
            self.lesson = gr.Markdown()
        self.frame.follow(CAPTION, self.show_caption, self.table, self.lesson)

    def wire(self) -> None:
        state = self.frame.seen
        self.table.select(self.on_caption, state, self.frame.outputs(CAPTION), **QUIET, **BUSY)

    def on_caption(self, seen: Seen | None, event: gr.SelectData) -> Shown:
        seen = present(seen)
        rank = chosen(event.index[0] if event.index else None, seen.captioned.captions)
        with told():
            evidence = WORK.evidence(seen.asked, seen.captioned.captions[rank])
        return self.frame.show(CAPTION, replace(seen, rank=rank, edited=None, evidence=evidence))

    def show_caption(self, seen: Seen) -> Shown:
        return {
            self.table: filled(says.captions(seen.captioned, seen.expert)),
            self.lesson: lesson(learn.attention(seen)),
        }
