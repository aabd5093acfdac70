"""How good the captioners are: the leaderboard, and their captions of photos that people described."""

from __future__ import annotations

import gradio as gr

from captionbot.pages.gradio import draw, work
from captionbot.pages.gradio.view import PICTURES, QUIET
from captionbot.pages.results import WAYS


def build(tab: gr.Tab) -> None:
    gr.Markdown(
        "Scores of coco-caption on photos of Flickr8k that no captioner was trained on, higher is "
        "better. CIDEr counts the phrases that a caption shares "
        "with what people wrote, rare ones more; BLEU-4 counts runs of four words. Photos a second "
        "are from a file's bytes to its caption, on the machine that measured them."
    )
    gr.Dataframe(
        draw.leaderboard(),
        headers=[
            "captioner",
            "search",
            *draw.SCORES,
            "million parameters",
            "photos a second",
        ],
        show_label=False,
        interactive=False,
        wrap=True,
        max_height=1000,
        elem_id="results",
    )
    with gr.Accordion("About these captioners", open=False):
        gr.Markdown(draw.descriptions())
    found, note = draw.gallery()
    with gr.Accordion("Best, worst, most different captions", open=found is not None):
        gr.Markdown(note, visible=found is None)
        with gr.Row(visible=found is not None):
            way = gr.Radio(found.ways if found else (), value=WAYS[0], label="Captions")
            way_of = gr.Dropdown(
                [(work.title(name), name) for name in (found.captioners if found else ())], label="Captioner"
            )
        shots = gr.Gallery(
            format=PICTURES,
            label="Photos that people described",
            columns=3,
            visible=found is not None,
            elem_id="shots",
        )
    if found is not None:
        gr.on([tab.select, way.input, way_of.input], draw.shots, [way, way_of], shots, **QUIET)
