"""The caption as chips, where the model looked for each word, and what it nearly said."""

from __future__ import annotations

import gradio as gr

from captionbot.pages.gradio import draw
from captionbot.pages.gradio.draw import SURENESS, View
from captionbot.pages.gradio.view import BUTTONS, PICTURES, Shown


class Heroes:
    """The best caption beside the photo, and the word of it that is chosen."""

    def __init__(self) -> None:
        self.headline = gr.Markdown(elem_id="headline")
        self.words = gr.HighlightedText(
            label="Click a word to see what it rests on",
            color_map={name: colour for name, _, colour in SURENESS},
            show_legend=True,
            elem_id="words",
        )
        with gr.Tab("Heatmap"):
            self.heatmap = gr.Image(
                label="Heatmap",
                height=460,
                buttons=BUTTONS,
                elem_id="heatmap",
                format=PICTURES,
            )
        with gr.Tab("Places"):
            self.places = gr.AnnotatedImage(show_label=False, height=460, elem_id="places", format=PICTURES)
        with gr.Row():
            self.word = gr.Dropdown([], label="The chosen word", min_width=140)
            self.rivals = gr.Label(
                label="Nearly said: click to hear it", elem_id="rivals", scale=2, min_width=280
            )
        pictures = [self.heatmap, self.places, self.rivals]
        self.caption_outputs = [self.headline, self.words]
        self.word_outputs = [self.word, *pictures]

    def show_caption(self, seen: View) -> Shown:
        return {self.headline: draw.headline(seen.caption), self.words: draw.chips(seen.caption)}

    def show_word(self, seen: View) -> Shown:
        return {
            self.word: gr.update(choices=draw.choices(seen.caption), value=seen.t),
            self.heatmap: draw.heatmap(seen),
            self.places: draw.places(seen),
            self.rivals: draw.rivals(seen),
        }


class EveryWord:
    """All words of the caption, and the other captions that can be chosen."""

    def __init__(self) -> None:
        gr.Markdown("Every word, and how likely it was. Click one.")
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
            headers=["caption", "confidence", "log-prob"],
            column_widths=["46%", "31%", "23%"],
            label="Captions, best first: click one",
            interactive=False,
            wrap=True,
            elem_id="captions",
        )
        with gr.Accordion("How it decides where to look", open=False):
            self.lesson = gr.Markdown()
        self.photo_outputs = [self.table]
        self.caption_outputs = [self.gallery, self.lesson]

    def show_photo(self, seen: View) -> Shown:
        return {self.table: draw.table(seen.captioned)}

    def show_caption(self, seen: View) -> Shown:
        return {self.gallery: draw.tiles(seen), self.lesson: draw.about_attention(seen)}
