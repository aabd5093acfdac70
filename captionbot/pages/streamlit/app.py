"""The Streamlit page: `streamlit run streamlit_app.py`. Widgets only; captionbot works everything out.

This is the frame: the photo, the settings and the tabs. Each tab is a module of `captionbot.pages.streamlit`.
"""

from __future__ import annotations

import random
import re
from typing import Any

import streamlit as st
from PIL import Image

from captionbot import CaptionBotError
from captionbot.draw.render import plain
from captionbot.pages import uploads
from captionbot.pages.samples import sample_photos
from captionbot.pages.streamlit import (
    ask,
    batch,
    beam,
    compare,
    regions,
    results,
    share,
    steer,
    truth,
    words,
    work,
)
from captionbot.pages.streamlit.work import Asked, Photo, Settings
from captionbot.search.options import SearchOptions
from captionbot.store.card import Card
from captionbot.store.weights import find_card
from captionbot.types import Captioned

MAX_MEGABYTES = 20
SEEDS = 100_000  # few enough to read one out

STYLE = """<style>
.stMainBlockContainer { padding-top: 3.5rem; padding-bottom: 3rem; max-width: 1240px; }
.stImage img { border-radius: 0.75rem; }
.st-key-chips [role="radiogroup"] > * {
    background: color-mix(in srgb, #635bff calc(var(--sure, 0%) * 0.5), transparent);
}
.st-key-chips [role="radiogroup"] > [aria-checked="true"]:is(*, :hover) { background: #4f46e5; color: #fff; }
/* Streamlit writes white on the primary colour, which is too light for that on the dark page. */
[data-testid="stBaseButton-primary"], .stMultiSelect [data-tag] { background: #4f46e5; }
@media (max-width: 700px) {  /* the caption is in sight below the photo */
    .st-key-hero img { max-height: 38vh; width: auto !important; }
    .stTable td:first-child { min-width: 11rem; }
}
.rivals div { display: grid; grid-template-columns: 6.5rem 1fr 3rem; gap: 0.6rem; align-items: center; }
.rivals i { background: rgb(128 128 150 / 0.18); border-radius: 4px; height: 0.6rem; }
.rivals b { display: block; height: 100%; border-radius: 4px; background: #635bff; }
</style>"""

TIPS = """
- People, dogs, sports, beaches, streets and snow are what it has seen most.
- One clear subject in daylight works best; screenshots, text, food and close-ups work poorly.
- It counts badly, guesses colours in poor light, and names nobody.
- Not happy? Raise the beam size, ask for more captions, or start the sentence yourself.
"""


def main() -> None:
    st.set_page_config("CaptionBot", "🔎", layout="wide")
    st.html(STYLE)
    page = st.navigation(
        [
            st.Page(explorer, title="Explore", icon=":material/search:", default=True),
            st.Page(many, title="Many photos", icon=":material/photo_library:", url_path="many"),
            st.Page(results.show, title="Results", icon=":material/leaderboard:", url_path="results"),
        ],
        position="top",
    )
    page.run()


def explorer() -> None:
    st.title("CaptionBot", anchor=False)
    st.markdown("Drop in a photo. CaptionBot says what it sees, and shows where it looked for every word.")
    try:
        with st.sidebar:
            settings = choose_settings()
        photo = choose_photo()
        if photo is None:
            return
        asked = Asked(photo, settings)
        shown, captioned = work.display_photo(photo), work.caption(asked)
    except CaptionBotError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    explore(asked, shown, captioned)


def many() -> None:
    try:
        with st.sidebar:
            settings = choose_settings()
        batch.show(settings)
    except CaptionBotError as error:
        st.error(plain(str(error)), icon=":material/error:")


@st.fragment
def explore(asked: Asked, shown: Image.Image, captioned: Captioned) -> None:
    """Photo, captions and views. A click in here runs this function again and nothing else."""
    view = words.heroes(asked, shown, captioned)
    views = {
        "Words": words.every_word,
        "Beam": beam.show,
        "Steer": steer.show,
        "Ask the picture": ask.show,
        "Is it true?": truth.show,
        **({"Regions": regions.show} if view.caption.labels is not None else {}),
        "Compare": compare.show,
        "Share": share.show,
    }
    tabs = st.tabs(list(views), key="view", on_change="rerun", bind="query-params")
    for tab, draw in zip(tabs, views.values(), strict=True):
        if tab.open:  # the others are worked out when they are opened
            with tab:
                draw(view)


def choose_photo() -> Photo | None:
    """The person's photo, or a sample until there is one, so that the page is never empty."""
    samples = sample_photos()
    name = next(iter(samples), None)
    with st.container(horizontal=True, vertical_alignment="center"):
        source = st.segmented_control(
            "Photo from",
            ["Upload", "Camera", "Link", "Samples"],
            default="Upload",
            required=True,
            label_visibility="collapsed",
            key="source",
            bind="query-params",
        )
        if source == "Upload":
            file = st.file_uploader(
                "Photo", "image", max_upload_size=MAX_MEGABYTES, label_visibility="collapsed", key="upload"
            )
            if file is not None:
                return Photo(file.name, file.getvalue())
        elif source == "Link":
            url = st.text_input(
                "Link",
                placeholder="https://… address of a photo",
                label_visibility="collapsed",
                key="url",
                bind="query-params",
            ).strip()
            if url:
                return Photo(url, work.fetch_photo(url))
        elif source == "Samples" and samples:
            name = st.pills(
                "Sample",
                list(samples),
                default=name,
                required=True,
                label_visibility="collapsed",
                key="sample",
                bind="query-params",
            )
    if source == "Camera":
        # Mounted only when asked for: the browser wants permission as soon as it is on the page.
        shot = st.camera_input("Take a photo", label_visibility="collapsed", key="camera")
        if shot is not None:
            return Photo("camera.jpg", shot.getvalue())
    return Photo(samples[name].name, samples[name].read_bytes()) if name else None


def choose_settings() -> Settings:
    model = choose_captioner()
    card = work.load_card(model)
    usual = SearchOptions(**card.search)
    beam_size = st.slider(
        "Beam size",
        1,
        10,
        min(usual.beam_size, 10),
        key="beam_size",
        bind="query-params",
        help="How many sentences are kept in play while the caption is written. 1 takes the likeliest word "
        "each time; more finds likelier sentences and takes longer.",
    )
    captions = st.slider(
        "Captions",
        1,
        10,
        3,
        key="captions",
        bind="query-params",
        help="How many to show, best first; at most the beam size.",
    )
    prefix = st.text_input(
        "Start the caption with…",
        placeholder="two children",
        key="prefix",
        bind="query-params",
        help="The model finishes your sentence.",
    ).strip()
    banned = st.text_input(
        "Words to avoid",
        placeholder="man, shirt",
        key="banned",
        bind="query-params",
        help="Separated by commas or spaces.",
    )
    with st.expander("More options"):
        options = more_options(usual, beam_size, captions)
    own_captioner()
    about(card)
    return Settings(model, options, prefix, tuple(re.findall(r"[^\s,;]+", banned)))


def choose_captioner() -> str:
    """The name of one. Streamlit would write its title into the page's address, where the name belongs."""
    titles, usual = work.captioners(), find_card().stem
    if len(titles) < 2:
        return usual
    asked = st.session_state.get("captioner", st.query_params.get("model"))
    model = asked if asked in titles else usual
    st.session_state.update(captioner=model, model=model)
    st.selectbox(
        "Captioner", list(titles), format_func=titles.__getitem__, key="model", on_change=keep_captioner
    )
    if model == usual:
        st.query_params.pop("model", None)
    else:
        st.query_params["model"] = model
    return model


def keep_captioner() -> None:
    """Streamlit forgets what was chosen as the visitor turns to another of the pages."""
    st.session_state["captioner"] = st.session_state["model"]


def more_options(usual: SearchOptions, beam_size: int, captions: int) -> SearchOptions:
    shortest, longest = st.slider(
        "Length in words", 1, 40, (usual.min_length, usual.max_length), key="length", bind="query-params"
    )
    length_penalty = st.slider(
        "Length penalty",
        0.0,
        2.0,
        float(usual.length_penalty),
        0.1,
        key="length_penalty",
        bind="query-params",
        help="0 ranks sentences by probability alone, which favours short ones; more favours long ones.",
    )
    no_repeat_ngram_size = st.slider(
        "No repeat of so many words",
        0,
        5,
        usual.no_repeat_ngram_size,
        key="no_repeat",
        bind="query-params",
        help="No run of so many words is said twice; 0 allows it.",
    )
    sampling = st.toggle(
        "Sampling",
        key="sampling",
        bind="query-params",
        help="Draw words by chance instead of searching for the likeliest sentence.",
    )
    return SearchOptions(
        min_length=shortest,
        max_length=longest,
        length_penalty=length_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        num_return=captions if sampling else min(captions, beam_size),
        **(sampling_options() if sampling else {"beam_size": beam_size}),
    )


def sampling_options() -> dict[str, Any]:
    options = {
        "temperature": st.slider(
            "Temperature",
            0.1,
            2.0,
            1.0,
            key="temperature",
            bind="query-params",
            help="Lower is safer, higher is wilder.",
        ),
        "top_k": st.slider(
            "Top k",
            0,
            100,
            0,
            key="top_k",
            bind="query-params",
            help="Draw from the k likeliest words; 0 is all.",
        ),
        "top_p": st.slider(
            "Top p",
            0.05,
            1.0,
            0.9,
            key="top_p",
            bind="query-params",
            help="Draw from the likeliest words that hold this probability.",
        ),
    }
    seed = st.number_input(
        "Seed",
        0,
        SEEDS - 1,
        0,
        key="seed",
        bind="query-params",
        help="The same seed draws the same sentences.",
    )
    st.button("Draw again", icon=":material/casino:", on_click=draw_again, width="stretch", key="draw_again")
    return {"sample": True, "seed": seed, **options}


def draw_again() -> None:
    st.session_state["seed"] = random.randrange(SEEDS)


def own_captioner() -> None:
    """An upload for a captioner that the visitor trained."""
    with st.expander("A captioner of your own"):
        st.file_uploader(
            "Card (.json) and weights (.safetensors), or a .zip of both",
            [".json", ".safetensors", ".zip"],
            accept_multiple_files=True,
            max_upload_size=uploads.MAX_MEGABYTES,
            key="own files",
            on_change=adopt_captioner,
            help="As `python -m training.train` writes them. It is kept for this visit only.",
        )
        if "own error" in st.session_state:
            st.error(plain(st.session_state["own error"]), icon=":material/error:")


def adopt_captioner() -> None:
    st.session_state.pop("own error", None)
    try:
        work.keep_own([(file.name, file.getvalue()) for file in st.session_state["own files"]])
    except CaptionBotError as error:
        st.session_state["own error"] = str(error)
    own = work.own_captioner()
    st.session_state["captioner"] = own.model if own else find_card().stem


def about(card: Card) -> None:
    with st.expander("Tips"):
        st.markdown(TIPS)
    with st.expander("About this captioner"):
        st.markdown(plain(card.description))
        measured = {title: card.scores.get(name) for title, name in results.METRICS.items()}
        scores = [f"{title} {value:.3f}" for title, value in measured.items() if isinstance(value, float)]
        facts = [card.name, f"{card.parameters / 1e6:.1f} million parameters", *scores, card.licence]
        st.caption(" · ".join(plain(fact) for fact in facts if fact))
    st.caption("Captions can be wrong. Your photos are not stored.")
