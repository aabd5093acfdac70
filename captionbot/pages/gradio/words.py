"""The caption as chips, where the model looked for each word, and what it nearly said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from captionbot.draw.overlays import LOOK
from captionbot.pages.gradio import view
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.view import (
    BUSY,
    BUTTONS,
    CAPTION,
    PHOTO,
    PICTURES,
    QUIET,
    WORD,
    Frame,
    Seen,
    Shown,
    chosen,
    filled,
    lesson,
    present,
)
from captionbot.pages.gradio.work import WORK
from captionbot.pages.presenters import learn
from captionbot.pages.presenters import words as says
from captionbot.pages.presenters.judgement import band
from captionbot.pages.presenters.seen import measures, probability
from captionbot.text.display import plain


class Heroes:
    """The best caption beside the photo, and the word of it that is chosen."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.headline = gr.Markdown(elem_id="headline")
        self.words = gr.HighlightedText(
            label=says.CHIPS,
            color_map={name: colour for name, _, colour in says.SURENESS},
            show_legend=True,
            elem_id="words",
        )
        with gr.Tab(says.HEATMAP):
            self.heatmap = gr.Image(
                label=says.HEATMAP, height=460, buttons=BUTTONS, elem_id="heatmap", format=PICTURES
            )
        with gr.Tab(says.PLACES):
            self.places = gr.AnnotatedImage(show_label=False, height=460, elem_id="places", format=PICTURES)
        with gr.Row():
            self.word = gr.Dropdown([], label=says.CHOSEN, min_width=140)
            self.rivals = gr.Label(label=says.ALTERNATIVES, elem_id="rivals", scale=2, min_width=280)
        frame.follow(CAPTION, self.show_caption, self.headline, self.words)
        frame.follow(WORD, self.show_word, self.word, self.heatmap, self.places, self.rivals)

    def wire(self) -> None:
        state, outputs = self.frame.seen, self.frame.outputs(WORD)
        self.words.select(self.on_word, state, outputs, **QUIET)
        self.word.input(self.on_chosen, [state, self.word], outputs, **QUIET)

    def on_word(self, seen: Seen | None, event: gr.SelectData) -> Shown:
        return self.on_chosen(present(seen), event.index)

    def on_chosen(self, seen: Seen | None, t: Any) -> Shown:
        seen = present(seen)
        return self.frame.show(WORD, replace(seen, t=chosen(t, seen.words)))

    def show_caption(self, seen: Seen) -> Shown:
        words = [(word.text, says.sureness(probability(word))) for word in seen.caption.words]
        judged = band(seen.caption, WORK.captioners())
        title = f"## {plain(judged.sentence)}\n{measures(seen.caption)}"
        if judged.note:
            title += f"\n\n> {plain(judged.note)}"
        return {self.headline: title, self.words: words}

    def show_word(self, seen: Seen) -> Shown:
        picture, label = says.heatmap(seen, seen.word)
        _, rivals, _ = says.alternatives(seen)
        return {
            self.word: gr.update(choices=says.numbered(seen.caption), value=seen.t),
            self.heatmap: gr.update(value=picture, label=label),
            self.places: says.places(seen),
            self.rivals: dict(rivals),
        }


class View(view.View):
    """All words of the caption, and the other captions that can be chosen."""

    def build(self) -> None:
        gr.Markdown(says.EVERY)
        self.gallery = gr.Gallery(
            format=PICTURES,
            show_label=False,
            columns=6,
            fit_columns=False,
            height="auto",
            elem_id="tiles",
            object_fit="contain",
            allow_preview=False,
            buttons=["download_all"],
        )
        self.table = gr.Dataframe(
            headers=[column.title for column in says.COLUMNS],
            label=says.CAPTIONS,
            interactive=False,
            wrap=True,
            elem_id="captions",
        )
        with gr.Accordion(learn.ATTENTION, open=False):
            self.lesson = gr.Markdown()
        self.frame.follow(PHOTO, self.show_photo, self.table)
        self.frame.follow(CAPTION, self.show_caption, self.gallery, self.lesson)

    def wire(self) -> None:
        state = self.frame.seen
        self.gallery.select(self.frame.heroes.on_word, state, self.frame.outputs(WORD), **QUIET)
        self.table.select(self.on_caption, state, self.frame.outputs(CAPTION), **QUIET, **BUSY)

    def on_caption(self, seen: Seen | None, event: gr.SelectData) -> Shown:
        seen = present(seen)
        rank = chosen(event.index[0] if event.index else None, seen.captioned.captions)
        with told():
            evidence = WORK.evidence(seen.asked, seen.captioned.captions[rank])
        return self.frame.show(CAPTION, replace(seen, rank=rank, evidence=evidence))

    def show_photo(self, seen: Seen) -> Shown:
        return {self.table: filled(says.captions(seen.captioned))}

    def show_caption(self, seen: Seen) -> Shown:
        tiles = says.tiles(seen.shown, seen.looked, LOOK)
        labelled = list(zip(tiles, says.tile_texts(seen.caption), strict=True))
        return {self.gallery: labelled, self.lesson: lesson(learn.attention(seen))}
