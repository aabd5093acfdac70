"""How good the captioners are: the leaderboard, and their captions of photos that people described."""

from __future__ import annotations

import gradio as gr
from PIL import Image

from captionbot.draw.overlays import DISPLAY
from captionbot.errors import CaptionBotError
from captionbot.pages.gradio import view
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.events import PRIVATE, QUIET
from captionbot.pages.gradio.view import PICTURES
from captionbot.pages.gradio.work import WORK
from captionbot.pages.presenters import results as says
from captionbot.pages.presenters.charts import html
from captionbot.pages.presenters.measured import picture, titles
from captionbot.pages.results import Gallery, gallery_file
from captionbot.text.display import plain


class View(view.View):
    def build(self) -> None:
        measured = says.leaderboard(WORK)
        gr.Markdown(says.INTRODUCTION if measured.rows else says.NONE)
        if pictures := titles(WORK):
            title = gr.Dropdown(pictures, value=pictures[0], label=says.PICTURE)
            chart = gr.HTML(elem_id="chart")
            gr.on([self.tab.select, title.input], drawn, title, chart, **PRIVATE)
        gr.Dataframe(
            measured.written,
            headers=measured.titles,
            show_label=False,
            interactive=False,
            wrap=True,
            max_height=1000,
            visible=bool(measured.rows),
            elem_id="results",
        )
        gr.Markdown(says.speed())
        with gr.Accordion(says.ABOUT, open=False):
            gr.Markdown(says.markdown(says.descriptions(WORK)))
        found, why = gallery()
        with gr.Accordion(says.GALLERY, visible=bool(found or why)):
            if found is None:
                gr.Markdown(why)
            else:
                self.photos(found)

    def photos(self, found: Gallery) -> None:
        with gr.Row():
            way = gr.Radio(found.ways, value=says.WAYS[0], label=says.WAY)
            captioner = gr.Dropdown(
                [(WORK.title(name), name) for name in found.captioners], label=says.CAPTIONER
            )
        pictures = gr.Gallery(format=PICTURES, show_label=False, columns=3, elem_id="shots")
        gr.on([self.tab.select, way.input, captioner.input], shots, [way, captioner], pictures, **QUIET)


def drawn(title: str) -> str:
    with told():
        return html(picture(WORK, title))


def gallery() -> tuple[Gallery | None, str]:
    """What captioners said of the photos of a data set, None where there is none here; and why, of a file
    that is no such thing."""
    file = gallery_file()
    try:
        return (Gallery.load(file), "") if file else (None, "")
    except CaptionBotError as error:
        return None, plain(str(error))


def shots(way: str, captioner: str) -> list[tuple[Image.Image, str]]:
    """Photos of `gallery` chosen in a way, each with its captions, their scores and what a person wrote."""
    found, _ = gallery()
    if found is None:
        return []
    chosen = found.chosen(way, captioner, says.SHOTS)
    photos = found.photos(chosen, DISPLAY)
    of = None if way == says.WAYS[-1] else captioner
    return [
        (photos[shot.photo], says.written(says.described(WORK, shot, photos[shot.photo], of)))
        for shot in chosen
        if shot.photo in photos
    ]
