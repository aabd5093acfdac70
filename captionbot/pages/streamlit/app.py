"""The Streamlit page: `streamlit run streamlit_app.py`. Widgets only; captionbot works everything out.

This is the frame: the photo, the settings and the tabs. Each tab is a module of `captionbot.pages.streamlit`.
"""

from __future__ import annotations

import random
from importlib import import_module
from typing import Any

import streamlit as st
from PIL import Image

from captionbot.errors import CaptionBotError
from captionbot.pages import presenters, uploads
from captionbot.pages.limits import MAX_PHOTO_MEGABYTES
from captionbot.pages.presenters import about
from captionbot.pages.presenters import batch as many_says
from captionbot.pages.presenters import results as results_say
from captionbot.pages.presenters import settings as says
from captionbot.pages.presenters.settings import LENGTH, SETTINGS
from captionbot.pages.samples import sample_photos
from captionbot.pages.streamlit import batch, results, room, words, work
from captionbot.pages.streamlit.work import WORK
from captionbot.pages.work import Asked, PhotoFile, Settings
from captionbot.search.options import SearchOptions
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.display import plain
from captionbot.types import Captioned

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


def main() -> None:
    room.limit_uploads()
    st.set_page_config(about.TITLE, "🔎", layout="wide")
    st.html(STYLE)
    page = st.navigation(
        [
            st.Page(explorer, title=about.EXPLORE, icon=":material/search:", default=True),
            st.Page(many, title=many_says.TITLE, icon=":material/photo_library:", url_path="many"),
            st.Page(results.show, title=results_say.TITLE, icon=":material/leaderboard:", url_path="results"),
        ],
        position="top",
    )
    page.run()


def explorer() -> None:
    st.title(about.TITLE, anchor=False)
    st.markdown(about.INTRODUCTION)
    try:
        with st.sidebar:
            settings = choose_settings()
        photo = choose_photo()
        if photo is None:
            return
        asked = Asked(photo, settings)
        shown, captioned = work.display(photo), WORK.caption(asked)
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
    seen = words.heroes(asked, shown, captioned)
    names = presenters.views_of(seen.caption)
    tabs = st.tabs(
        [presenters.title(name) for name in names], key="view", on_change="rerun", bind="query-params"
    )
    for tab, name in zip(tabs, names, strict=True):
        if tab.open:  # the others are worked out when they are opened
            with tab:
                import_module(f"captionbot.pages.streamlit.{name}").show(seen)


def choose_photo() -> PhotoFile | None:
    """The person's photo, or a sample until there is one, so that the page is never empty."""
    samples = sample_photos()
    name = next(iter(samples), None)
    upload, camera, link, of_samples = about.SOURCES
    with st.container(horizontal=True, vertical_alignment="center"):
        source = st.segmented_control(
            about.SOURCE,
            about.SOURCES,
            default=upload,
            required=True,
            label_visibility="collapsed",
            key="source",
            bind="query-params",
        )
        if source == upload:
            file = st.file_uploader(
                about.PHOTO,
                "image",
                max_upload_size=MAX_PHOTO_MEGABYTES,
                label_visibility="collapsed",
                key="upload",
            )
            if file is not None:
                return PhotoFile(file.name, file.getvalue())
        elif source == link:
            url = st.text_input(
                about.ADDRESS,
                placeholder=about.ADDRESS_EXAMPLE,
                label_visibility="collapsed",
                key="url",
                bind="query-params",
            ).strip()
            if url:
                return PhotoFile(url, work.fetch_photo(url))
        elif source == of_samples and samples:
            name = st.pills(
                about.SAMPLE,
                list(samples),
                default=name,
                required=True,
                label_visibility="collapsed",
                key="sample",
                bind="query-params",
            )
    if source == camera:
        # Mounted only when asked for: the browser wants permission as soon as it is on the page.
        shot = st.camera_input(about.TAKE, label_visibility="collapsed", key="camera")
        if shot is not None:
            return PhotoFile("camera.jpg", shot.getvalue())
    return PhotoFile(samples[name].name, samples[name].read_bytes()) if name else None


def choose_settings() -> Settings:
    model = choose_captioner()
    card = WORK.card(model)
    usual = WORK.usual(model)
    given = {"beam_size": slider("beam_size", usual), "captions": slider("captions", usual)}
    prefix, banned = text("prefix", says.PREFIX).strip(), text("banned", says.BANNED)
    with st.expander(says.MORE):
        given |= more_options(usual)
    own_captioner()
    describe(card)
    return Settings(model, says.search(given), prefix, (banned,))


def text(key: str, setting: says.Setting) -> str:
    return st.text_input(
        setting.label, placeholder=setting.example, key=key, bind="query-params", help=setting.help
    )


def slider(name: str, usual: SearchOptions, key: str = "") -> Any:
    """The slider of a number. key: its name in the address of the page, where that differs."""
    setting, first = SETTINGS[name], says.first(name, usual)
    kind = int if setting.step == 1 else float
    return st.slider(
        setting.label,
        kind(setting.low),
        kind(setting.high),
        kind(first),
        kind(setting.step),
        key=key or name,
        bind="query-params",
        help=setting.help,
    )


def choose_captioner() -> str:
    """The name of one. Streamlit would write its title into the page's address, where the name belongs."""
    titles, usual = WORK.captioners(), find_card().stem
    if len(titles) < 2:
        return usual
    asked = st.session_state.get("captioner", st.query_params.get("model"))
    model = asked if asked in titles else usual
    st.session_state.update(captioner=model, model=model)
    st.selectbox(
        says.CAPTIONER.label,
        list(titles),
        format_func=titles.__getitem__,
        key="model",
        on_change=keep_captioner,
    )
    if model == usual:
        st.query_params.pop("model", None)
    else:
        st.query_params["model"] = model
    return model


def keep_captioner() -> None:
    """Streamlit forgets what was chosen as the visitor turns to another of the pages."""
    st.session_state["captioner"] = st.session_state["model"]


def more_options(usual: SearchOptions) -> dict[str, Any]:
    shortest, longest = st.slider(
        LENGTH.label,
        LENGTH.low,
        LENGTH.high,
        (usual.min_length, usual.max_length),
        key="length",
        bind="query-params",
    )
    options = {
        "min_length": shortest,
        "max_length": longest,
        "length_penalty": slider("length_penalty", usual),
        "no_repeat_ngram_size": slider("no_repeat_ngram_size", usual, "no_repeat"),
        "sample": st.toggle(
            SETTINGS["sample"].label, key="sampling", bind="query-params", help=SETTINGS["sample"].help
        ),
    }
    return options | (sampling_options(usual) if options["sample"] else {})


def sampling_options(usual: SearchOptions) -> dict[str, Any]:
    options = {name: slider(name, usual) for name in ("temperature", "top_k", "top_p")}
    setting = SETTINGS["seed"]
    options["seed"] = st.number_input(
        setting.label,
        setting.low,
        setting.high,
        setting.value,
        key="seed",
        bind="query-params",
        help=setting.help,
    )
    st.button(
        says.DRAW_AGAIN, icon=":material/casino:", on_click=draw_again, width="stretch", key="draw_again"
    )
    return options


def draw_again() -> None:
    st.session_state["seed"] = random.randrange(int(SETTINGS["seed"].high) + 1)


def own_captioner() -> None:
    """An upload for a captioner that the visitor trained."""
    with st.expander(says.OWN):
        st.file_uploader(
            says.OWN_FILES,
            [".json", ".safetensors", ".zip"],
            accept_multiple_files=True,
            max_upload_size=uploads.MAX_MEGABYTES,
            key="own files",
            on_change=adopt_captioner,
            help=says.OWN_HELP,
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


def describe(card: Card) -> None:
    with st.expander(says.TIPS_TITLE):
        st.markdown(says.TIPS)
    with st.expander(says.ABOUT):
        st.markdown(plain(card.description))
        st.caption(" · ".join(plain(fact) for fact in results_say.facts(card)))
    st.caption(about.MISTAKES)
    st.caption(about.NOT_STORED)
