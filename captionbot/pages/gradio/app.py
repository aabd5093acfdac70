"""The Gradio page and Hugging Face Space: `python gradio_app.py`. Widgets only.

This is the frame: the photo, the settings and the tabs, and what more than one of them follows. Each tab is
a module of `captionbot.pages.gradio`.

GRADIO_MCP_SERVER=true makes the endpoints tools of an MCP server too; it needs `pip install "gradio[mcp]"`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read as gradio is imported

from captionbot.pages.gradio import (
    work,  # before all others: it imports ZeroGPU's spaces, which must be first
)

# isort: split
import gradio as gr
from starlette.middleware import Middleware

from captionbot.draw.render import fit, plain
from captionbot.errors import CaptionBotError
from captionbot.pages.gradio import api, results
from captionbot.pages.gradio.ask import Ask
from captionbot.pages.gradio.batch import Batch
from captionbot.pages.gradio.beam import Beam
from captionbot.pages.gradio.compare import Compare
from captionbot.pages.gradio.door import Page, aside, told, warn
from captionbot.pages.gradio.draw import View
from captionbot.pages.gradio.regions import Regions
from captionbot.pages.gradio.requests import Requests
from captionbot.pages.gradio.settings import Settings, adopt
from captionbot.pages.gradio.share import Share
from captionbot.pages.gradio.steer import Steer
from captionbot.pages.gradio.truth import Truth
from captionbot.pages.gradio.view import (
    BUSY,
    FETCHING,
    LONG,
    PRIVATE,
    PROGRAMS,
    QUIET,
    Shown,
    chosen,
    hidden,
    original,
    present,
)
from captionbot.pages.gradio.words import EveryWord, Heroes
from captionbot.pages.resident import sharpest
from captionbot.pages.samples import sample_photos
from captionbot.pages.turns import turn
from captionbot.pages.uploads import MAX_MEGABYTES

CACHE_SECONDS = 600
SAMPLES = sample_photos()
gr.set_static_paths([*SAMPLES.values()])  # wherever they are installed

INTRODUCTION = """# CaptionBot
Give it a photo. It says what it sees, and shows where it looked for every word."""
ABOUT = f"""Captions can be wrong, and a confidence is how sure the model is of its wording, not the chance
that it is right. Photos are used for nothing but your caption: Gradio keeps them and the pictures drawn
from them in a temporary folder of the server, which is emptied of everything older than
{CACHE_SECONDS // 60} minutes."""
# What is asked for from further down comes into sight; a caption that is in sight stays where it is.
TO_HEADLINE = "() => document.getElementById('headline').scrollIntoView({block: 'nearest'})"
NO_PHOTO = "There is no photo yet: upload one, take one, paste one, or click a sample."

CSS = """
#headline { scroll-margin-top: 1rem; }
#words .token { cursor: pointer; font-size: 1.1rem; }
#rivals button { cursor: pointer; }
#rivals h2 { display: none; }
#rivals .container { padding-top: 2.4rem; }
.caption-label { white-space: pre-line !important; max-width: 100% !important; }
#views [role=grid] *, #rivals * { font-family: var(--font); }
.dark #words button, .dark .token, .dark .token * { color: white !important; }
#heatmap img, #places img, #boxes img, #asked img { width: 100%; height: 100%; object-fit: contain; }
#said:not(:has(#headline h2)) > :not(#headline) { display: none; }  /* no caption yet */
@media (max-width: 700px) {  /* what is said stands right under the photo */
  #given { display: contents; }
  #given > :not(#photo) { order: 1; }
  #views .row:has(> .act) { flex-direction: column; }
  #views .act { width: 100%; }
  #heatmap, #places { height: auto !important; }
  .grid-container { grid-template-columns: 1fr !important; }
  #tiles .grid-container { grid-template-columns: repeat(3, 1fr) !important; }
  #views table * { font-size: 0.75rem; }
  #views table th > *, #views table td > * { padding-left: 0.25rem; padding-right: 0.25rem; }
}
#heatmap label.float, #boxes label.float { max-width: calc(100% - 5.5rem); }
#asked-for input[type=range] { min-width: 0; }
#views .grid-wrap { max-height: none !important; }
#boxes img.mask:not(.active):not(.inactive) { opacity: 0.45; }
.act { align-self: center; max-height: 3rem; min-width: fit-content !important; white-space: nowrap; }
#many img { max-height: 4.5rem; border-radius: 0.4rem; margin: 0; }
.tree { overflow-x: auto; --st-text-color: var(--body-text-color);
        --st-background-color: var(--background-fill-primary); --st-primary-color: var(--primary-500); }
"""
LAUNCH: dict[str, Any] = {
    # Fonts of the visitor's own system: nothing is fetched from elsewhere to show the page.
    "theme": gr.themes.Soft(
        primary_hue="indigo",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ),
    "css": CSS,
    "max_file_size": f"{MAX_MEGABYTES}mb",  # of a captioner; photos have a limit of their own
    "run_history": False,
    # Gradio would ask its own page for an answer within 3 seconds and give up where the machine is busy.
    "_frontend": False,
    "footer_links": ["api"],
    "state_session_capacity": 200,
    "enable_monitoring": False,
    "app_kwargs": {"middleware": [Middleware(Requests)]},
}

# The events that more than one view follows. Each returns a value for every component that it changes.


def on_open(request: gr.Request) -> Shown:
    """What the address of the page says: the captioner, its settings, and a photo that others can see too."""
    asked = dict(request.query_params)
    shown = settings.from_address(asked)
    if asked.get("photo") in SAMPLES:
        return {link: "", photo: str(SAMPLES[asked["photo"]]), **shown}
    # Gradio takes an empty dictionary for none.
    return {link: asked.get("url", ""), **shown}


def on_address(values: Shown) -> str:
    """What `on_open` reads, of all settings that are not as they were, and of the photo."""
    said = settings.to_address(values)
    seen, url = values[view], (values[link] or "").strip()
    if seen:
        data = Path(seen.file).read_bytes() if Path(seen.file).is_file() else b""
        own = next((name for name, path in SAMPLES.items() if path.read_bytes() == data), None)
        said |= {"photo": own} if own else {"url": url} if url else {}
    return f"?{urlencode(said)}"


async def on_link(url: str) -> Any:
    """The photo at an address; the one before stays where there is none."""
    if not url.strip():
        return gr.skip()
    try:
        return await aside(work.photo_at, url.strip())
    except CaptionBotError as error:
        warn(str(error))
        return gr.skip()


def on_own(uploaded: list[dict[str, Any]] | None, before: str) -> Shown:
    """A captioner that a visitor uploads, chosen at once and among those to compare."""
    own = adopt(uploaded, before)
    return {**settings.show_own(own), **compare.show_own(own)}


def on_photo(values: Shown) -> Shown:
    """Caption the photo and show the best caption; an empty page where the photo was taken away."""
    if values[photo] is None:
        return show_nothing(NO_PHOTO)
    file, before = values[photo], values[view]
    with told(), turn():
        asked = settings.chosen(values)
        if before and before.asked == (file["path"], *asked):
            return {view: before}  # a link's photo comes twice: with the page, and as it changes
        name = file.get("orig_name") or "photo"
        try:
            image = work.read_upload(file["path"], name)
        except CaptionBotError as error:
            return show_nothing(plain(str(error)))
        captioned, evidence = work.look(asked[0], image, *asked[1:])
    seen = View(file["path"], name, *asked, fit(image), captioned, evidence)
    return {
        **every_word.show_photo(seen),
        **beam.show_photo(seen),
        **ask.show_photo(seen, image),
        **truth.show_photo(seen),
        **hidden(*compare.answers),
        **show_caption(seen),
    }


def on_caption(seen: View | None, event: gr.SelectData) -> Shown:
    seen = present(seen)
    seen = seen._replace(rank=chosen(event.index[0] if event.index else None, seen.captioned.captions))
    with turn():
        found = work.evidence(seen.model, original(seen), seen.caption)
    return show_caption(seen._replace(evidence=found, missed=None))


def on_word(seen: View | None, event: gr.SelectData) -> Shown:
    return on_chosen(present(seen), event.index)


def on_chosen(seen: View | None, t: int) -> Shown:
    seen = present(seen)
    return show_word(seen._replace(t=chosen(t, seen.caption.words)))


def on_rival(seen: View | None, event: gr.SelectData) -> Shown:
    return {views: gr.Tabs(selected="steer"), **steer.show_rival(present(seen), event.value)}


def show_nothing(why: str) -> Shown:
    """The page without a photo."""
    emptied = [
        heroes.words,
        heroes.places,
        heroes.rivals,
        *(*every_word.caption_outputs, *every_word.photo_outputs),
        *(*beam.photo_outputs, *ask.photo_outputs, *share.caption_outputs),
    ]
    return {
        view: None,
        heroes.headline: why,
        heroes.heatmap: gr.update(value=None, label="Heatmap"),
        **dict.fromkeys(emptied),
        **hidden(*answers, regions.tab),
    }


def show_caption(seen: View) -> Shown:
    """All that changes with the caption."""
    return {
        **heroes.show_caption(seen),
        **every_word.show_caption(seen),
        **regions.show_caption(seen),
        **share.show_caption(seen),
        **hidden(*answers),
        **show_word(seen._replace(t=sharpest(seen.looked))),
    }


def show_word(seen: View) -> Shown:
    """All that changes with the chosen word."""
    return {
        view: seen,
        **heroes.show_word(seen),
        **steer.show_word(seen),
        **truth.show_word(seen),
    }


with Page(title="CaptionBot", analytics_enabled=False, delete_cache=(60, CACHE_SECONDS)) as demo:
    gr.Markdown(INTRODUCTION)
    view = gr.State(time_to_live=CACHE_SECONDS)
    compared = gr.State(time_to_live=CACHE_SECONDS)
    own_captioner = gr.State("", delete_callback=work.let_go)
    with gr.Row(elem_id="heroes"):
        with gr.Column(scale=2, min_width=320, elem_id="given"):
            photo = gr.Image(
                next((str(path) for path in SAMPLES.values()), None),
                label="Photo",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                format="png",
                height=300,
                elem_id="photo",
            )
            link = gr.Textbox(label="Or the address of one", placeholder="https://…", submit_btn="Fetch")
            gr.Examples([str(path) for path in SAMPLES.values()], photo, label="Or a sample")
            with gr.Column(elem_id="asked-for"):
                settings = Settings(own_captioner)
        with gr.Column(scale=3, min_width=320, elem_id="said"):
            heroes = Heroes()
    with gr.Tabs(elem_id="views") as views:
        with gr.Tab("Words"):
            every_word = EveryWord()
        with gr.Tab("Regions", id="regions", visible=False) as regions_tab:
            regions = Regions(regions_tab, view)
        with gr.Tab("Beam"):
            beam = Beam(view)
        with gr.Tab("Steer", id="steer"):
            steer = Steer(view)
        with gr.Tab("Ask the picture"):
            ask = Ask(view)
        with gr.Tab("Is it true?"):
            truth = Truth(view)
        with gr.Tab("Compare"):
            compare = Compare(view, compared)
        with gr.Tab("Many photos"):
            batch = Batch(settings)
        with gr.Tab("Results") as results_tab:
            results.build(results_tab)
        with gr.Tab("Share") as share_tab:
            share = Share(view)
    gr.Markdown(ABOUT)

    answers = [*steer.said.answers, *ask.said.answers, *truth.answers]
    word_outputs = [view, *heroes.word_outputs, *steer.word_outputs, *truth.word_outputs]
    caption_outputs = [
        *(*heroes.caption_outputs, *every_word.caption_outputs, *share.caption_outputs),
        *(*word_outputs, *answers, *regions.caption_outputs),
    ]
    photo_outputs = [
        *(*caption_outputs, *every_word.photo_outputs, *beam.photo_outputs),
        *(*ask.photo_outputs, *truth.photo_outputs, *compare.answers),
    ]
    asking = {*settings.controls.values()}
    caption_photo: dict[str, Any] = {
        "fn": on_photo,
        "inputs": {view, photo, *asking},
        "outputs": photo_outputs,
        "preprocess": False,
        "show_progress_on": heroes.headline,
        "trigger_mode": "always_last",  # a photo that comes while another is captioned is not forgotten
        **PRIVATE,
        **BUSY,
    }
    demo.load(on_open, None, [*settings.controls.values(), photo, link], **PRIVATE).then(
        on_link, link, photo, **QUIET, **FETCHING
    ).then(**caption_photo)
    asked_for = [photo.change, settings.button.click, settings.prefix.submit, settings.banned.submit]
    gr.on(asked_for, **caption_photo)
    gr.on(
        [*asked_for, settings.model.input, every_word.gallery.select, every_word.table.select],
        None,
        js=TO_HEADLINE,
    )
    settings.model.input(settings.on_model, settings.model, settings.searching, **QUIET).then(**caption_photo)
    settings.own_files.upload(
        on_own,
        [settings.own_files, own_captioner],
        [*settings.own_outputs, compare.models],
        preprocess=False,
        **PRIVATE,
        **BUSY,
    ).success(**caption_photo)
    link.submit(on_link, link, photo, **PRIVATE, **FETCHING)
    photo.input(lambda: "", None, link, **QUIET)  # the photo is no longer that of the address
    every_word.table.select(on_caption, view, caption_outputs, **QUIET, **BUSY)
    gr.on([heroes.words.select, every_word.gallery.select], on_word, view, word_outputs, **QUIET)
    heroes.word.input(on_chosen, [view, heroes.word], word_outputs, **QUIET)
    heroes.rivals.select(on_rival, view, [views, *steer.said.outputs], **PRIVATE, **BUSY)
    share_tab.select(on_address, {view, link, *asking}, share.address, **QUIET).then(
        None, share.address, share.address, js="(query) => location.origin + location.pathname + query"
    )
    for endpoint in api.ENDPOINTS:
        kind = LONG if endpoint is api.batch else PROGRAMS
        gr.api(endpoint, api_name=endpoint.__name__, **kind)

demo.queue(max_size=64, default_concurrency_limit=4)
