"""The Gradio page and Hugging Face Space: `python gradio_app.py`. Widgets only; the work is in captionbot."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read as gradio is imported

try:
    import spaces  # on ZeroGPU it patches torch, so it comes first
except ImportError:
    spaces = None

import gradio as gr
import numpy as np
from PIL import Image

from captionbot import CaptionBotError, Captioned, Captioner, SearchOptions
from captionbot.explain import attention_map
from captionbot.images import load_image, load_url
from captionbot.records import error_record, record
from captionbot.render import fit, percent, plain, sentence, word_overlay
from captionbot.samples import sample_photos
from captionbot.types import Caption

CACHE_SECONDS = 600
PLACES = 3  # boxes drawn for a word
SAMPLES = [str(path) for path in sample_photos().values()]

INTRODUCTION = """# CaptionBot
Give it a photo. It says what it sees, and shows where it looked for every word."""
ABOUT = f"""Captions can be wrong, and a confidence is how sure the model is of its wording, not the chance
that it is right. Photos are used for nothing but your caption: Gradio keeps them and the pictures drawn
from them in a temporary folder of the server, which is emptied of everything older than
{CACHE_SECONDS // 60} minutes."""
NO_PHOTO = "There is no photo yet: upload one, take one, paste one, or click a sample."
STALE = "This page was left alone for too long: caption the photo again."

SURENESS = (  # name, least probability of a word, colour
    ("sure, 60% or more", 0.6, "#16a34a"),
    ("likely, 20% or more", 0.2, "#eab308"),
    ("a guess, below 20%", 0.0, "#f87171"),
)
BEAM_OPTIONS = ("beam_size",)
SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "seed")
COMMON_OPTIONS = ("min_length", "max_length", "length_penalty", "no_repeat_ngram_size")

CSS = """
#words .token { cursor: pointer; font-size: 1.1rem; }
"""
LAUNCH: dict[str, Any] = {
    # Fonts of the visitor's own system: nothing is fetched from elsewhere to show the page.
    "theme": gr.themes.Soft(
        primary_hue="indigo",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ),
    "css": CSS,
    "max_file_size": "20mb",
    "run_history": False,
    "footer_links": ["api"],
    "state_session_capacity": 200,
}


class View(NamedTuple):
    """What one visitor looks at: the photo at display size, its captions, and the one that was chosen."""

    photo: Image.Image
    captioned: Captioned
    rank: int = 0

    @property
    def caption(self) -> Caption:
        return self.captioned.captions[self.rank]


CAPTIONER = Captioner.from_pretrained()  # one for all visitors
USUAL = CAPTIONER.options()


def on_gpu(function: Any) -> Any:
    """Lends the GPU of a ZeroGPU Space to a function; elsewhere the function as it is."""
    return spaces.GPU(function) if spaces else function


@on_gpu
def caption_image(image: Image.Image, options: SearchOptions, prefix: str, banned: str) -> Captioned:
    banned_words = re.findall(r"[^\s,;]+", banned)
    return CAPTIONER.caption([image], options, prefix=prefix, banned_words=banned_words)[0]


@contextmanager
def told() -> Iterator[None]:
    """Mistakes that a person can mend become the page's own messages."""
    try:
        yield
    except CaptionBotError as error:
        raise gr.Error(str(error), print_exception=False) from error


def read_upload(file: dict[str, Any]) -> Image.Image:
    """The photo of an upload. Not as Gradio reads it, which takes fewer kinds of image and forgets EXIF."""
    return load_image(Path(file["path"]).read_bytes())


# What the page's events do


def on_link(url: str) -> Image.Image:
    with told():
        return fit(load_url(url.strip()))


def on_photo(values: dict[Any, Any]) -> tuple[Any, ...]:
    """Caption the photo and show the best caption; an empty page where the photo was taken away."""
    if values[photo] is None:
        return None, NO_PHOTO, *[None] * 6
    with told():
        image = read_upload(values[photo])
        captioned = caption_image(image, chosen_options(values), values[prefix], values[banned])
    view = View(fit(image), captioned)
    table = [
        [caption.text, percent(caption.confidence), round(caption.log_prob, 2)]
        for caption in captioned.captions
    ]
    name = values[photo].get("orig_name") or "photo"
    return *show_caption(view), table, record(name, CAPTIONER.name, captioned)


def on_caption(view: View | None, event: gr.SelectData) -> tuple[Any, ...]:
    return show_caption(present(view)._replace(rank=event.index[0]))


def on_word(view: View | None, event: gr.SelectData) -> tuple[Any, ...]:
    return show_word(present(view), event.index)


def present(view: View | None) -> View:
    if view is None:
        raise gr.Error(STALE, print_exception=False)
    return view


def chosen_options(values: dict[Any, Any]) -> SearchOptions:
    given = {name: values[control] for name, control in controls.items()}
    names = COMMON_OPTIONS + (SAMPLING_OPTIONS if given["sample"] else BEAM_OPTIONS)
    captions = given["captions"] if given["sample"] else min(given["captions"], given["beam_size"])
    return SearchOptions(sample=given["sample"], num_return=captions, **{name: given[name] for name in names})


# What is drawn


def show_caption(view: View) -> tuple[Any, ...]:
    """State, headline, words, pictures of one word, and the gallery of all."""
    caption = view.caption
    headline = (
        f"## {plain(sentence(caption.text))}\n"
        f"Confidence {percent(caption.confidence)} · log-probability {caption.log_prob:.1f}"
    )
    probabilities = [math.exp(word.log_prob) for word in caption.words]
    words = [(word.text, sureness(p)) for word, p in zip(caption.words, probabilities, strict=True)]
    small = fit(view.photo, 320)
    tiles = [
        (word_overlay(small, caption, t), f"{word.text} · {percent(probabilities[t])}")
        for t, word in enumerate(caption.words)
    ]
    # Begin with the word that the model looked at most sharply: the first one is an article, mostly.
    sharpest = int(caption.alphas.max(axis=1).argmax())
    return view, headline, words, *show_word(view, sharpest), tiles


def show_word(view: View, t: int) -> tuple[Any, ...]:
    """The heatmap of word t, and the places that it looked at most."""
    caption, photo = view.caption, view.photo
    scale = np.array([photo.width, photo.height] * 2) / np.array([*caption.image_size] * 2)
    boxes = (caption.boxes * scale).round().astype(int)
    most = np.argsort(-caption.alphas[t])[:PLACES]
    places = [(tuple(boxes[p]), f"{percent(caption.alphas[t, p])} of its attention") for p in most]
    heatmap = attention_map(caption, t, photo.size)
    word = caption.words[t].text
    drawn = gr.update(value=word_overlay(photo, caption, t), label=f"Where it looked for “{word}”")
    return drawn, (photo, [(heatmap, word), *places])


def sureness(probability: float) -> str:
    return next(name for name, least, _ in SURENESS if probability >= least)


# The endpoint for programs


def caption(
    image: gr.FileData,
    beam_size: int = USUAL.beam_size,
    num_return: int = 1,
    prefix: str = "",
    banned: str = "",
) -> dict[str, Any]:
    """Caption one photo: what `python -m captionbot caption --format jsonl` writes about it."""
    file = cast(dict[str, Any], image)  # Gradio shows the type to clients, and passes the plain dictionary
    name = file.get("orig_name") or "photo"
    with told():
        options = CAPTIONER.options(beam_size=beam_size, num_return=num_return)
        try:
            loaded = read_upload(file)
        except CaptionBotError as error:
            return error_record(name, str(error))
        return record(name, CAPTIONER.name, caption_image(loaded, options, prefix, banned))


with gr.Blocks(title="CaptionBot", analytics_enabled=False, delete_cache=(60, CACHE_SECONDS)) as demo:
    gr.Markdown(INTRODUCTION)
    view = gr.State(time_to_live=CACHE_SECONDS)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            photo = gr.Image(
                SAMPLES[0] if SAMPLES else None,
                label="Photo",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                format="png",
                height=300,
                elem_id="photo",
            )
            link = gr.Textbox(label="Or the address of one", placeholder="https://…", submit_btn="Fetch")
            gr.Examples(SAMPLES, photo, label="Or a sample")
            with gr.Row():
                beam_size = gr.Slider(1, 10, USUAL.beam_size, step=1, label="Beam size", min_width=120)
                captions = gr.Slider(1, 10, 3, step=1, label="Captions", min_width=120)
            button = gr.Button("Generate captions", variant="primary")
            with gr.Accordion("More options", open=False):
                prefix = gr.Textbox("", label="Start the caption with", placeholder="two children")
                banned = gr.Textbox("", label="Words to avoid", placeholder="man, shirt")
                controls = {
                    "beam_size": beam_size,
                    "captions": captions,
                    "min_length": gr.Slider(1, 40, USUAL.min_length, step=1, label="Words at least"),
                    "max_length": gr.Slider(1, 40, USUAL.max_length, step=1, label="Words at most"),
                    "length_penalty": gr.Slider(
                        0, 2, USUAL.length_penalty, label="Length penalty", info="more favours long sentences"
                    ),
                    "no_repeat_ngram_size": gr.Slider(
                        0,
                        5,
                        USUAL.no_repeat_ngram_size,
                        step=1,
                        label="No repeat of so many words",
                        info="0 allows it",
                    ),
                    "sample": gr.Checkbox(False, label="Sampling", info="draw words instead of searching"),
                    "temperature": gr.Slider(0.1, 2, 1, label="Temperature", info="lower is safer"),
                    "top_k": gr.Slider(0, 100, 0, step=1, label="Top k", info="0 is all words"),
                    "top_p": gr.Slider(0.05, 1, 0.9, label="Top p"),
                    "seed": gr.Number(0, precision=0, label="Seed"),
                }
        with gr.Column(scale=3, min_width=320):
            headline = gr.Markdown(elem_id="headline")
            words = gr.HighlightedText(
                label="Click a word to see where the model looked",
                color_map={name: colour for name, _, colour in SURENESS},
                show_legend=True,
                elem_id="words",
            )
            with gr.Tab("Heatmap"):
                heatmap = gr.Image(
                    label="Heatmap", height=460, buttons=["download", "fullscreen"], elem_id="heatmap"
                )
            with gr.Tab("Places"):
                places = gr.AnnotatedImage(show_label=False, height=460, elem_id="places")
            table = gr.Dataframe(
                headers=["caption", "confidence", "log-prob"],
                column_widths=["64%", "18%", "18%"],
                label="Captions, best first: click one",
                interactive=False,
                wrap=True,
            )
    gr.Markdown("### Every word: click one")
    gallery = gr.Gallery(
        show_label=False,
        columns=6,
        fit_columns=False,
        height="auto",
        object_fit="contain",
        allow_preview=False,
        buttons=["download_all"],
    )
    with gr.Accordion("JSON", open=False):
        numbers = gr.JSON(show_label=False)
    gr.Markdown(ABOUT)

    word_pictures = [heatmap, places]
    caption_pictures = [view, headline, words, *word_pictures, gallery]
    busy: dict[str, Any] = {
        "concurrency_limit": 1,
        "concurrency_id": "captioner",
    }  # the model uses every core as it is
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    gr.on(
        [demo.load, photo.change, button.click, prefix.submit, banned.submit],
        on_photo,
        {photo, prefix, banned, *controls.values()},
        [*caption_pictures, table, numbers],
        preprocess=False,
        show_progress_on=headline,
        api_visibility="private",
        **busy,
    )
    link.submit(on_link, link, photo, api_visibility="private")
    table.select(on_caption, view, caption_pictures, **quiet)
    gr.on([words.select, gallery.select], on_word, view, word_pictures, **quiet)
    gr.api(caption, api_name="caption", **busy)

demo.queue(max_size=32)

if __name__ == "__main__":
    demo.launch(**LAUNCH)
