"""The Streamlit page: `streamlit run streamlit_app.py`. Widgets only; captionbot works everything out.

This is the frame: the photo, the settings and the tabs. Each tab is a module of `captionbot.pages.streamlit`.
"""

from __future__ import annotations

import random
from dataclasses import replace
from importlib import import_module
from typing import Any

import streamlit as st
from PIL import Image

from captionbot.errors import CaptionBotError
from captionbot.pages import presenters, uploads
from captionbot.pages.limits import MAX_PHOTO_MEGABYTES, checked_text
from captionbot.pages.presenters import about
from captionbot.pages.presenters import batch as many_says
from captionbot.pages.presenters import canvas as says_canvas
from captionbot.pages.presenters import results as results_say
from captionbot.pages.presenters import settings as says
from captionbot.pages.presenters.canvas import Touched
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.presenters.settings import LENGTH, SETTINGS
from captionbot.pages.samples import sample_photos
from captionbot.pages.streamlit import batch, canvas, hands, hub, results, room, words, work
from captionbot.pages.streamlit.work import WORK
from captionbot.pages.work import Asked, PhotoFile, Settings
from captionbot.search.options import BEGINNINGS, SearchOptions
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.display import plain
from captionbot.types import Captioned

UPLOADER = ".st-key-uploads input[type=file]"  # the browser's part of the page hands it files
STYLE = """<style>
.stMainBlockContainer { padding: 3.9rem 1.5rem 0.5rem; max-width: 1480px; }
.stImage img { border-radius: 0.75rem; }
.st-key-uploads { display: none; }
/* Streamlit writes white on the primary colour, which is too light for that on the dark page. */
[data-testid="stBaseButton-primary"], .stMultiSelect [data-tag] { background: #4f46e5; }
[data-testid="stCaptionContainer"] { color: inherit; opacity: 0.8; }  /* its own grey is too faint */
[data-testid="stRadioOption"]:has(input:not(:checked)) > div > div:first-child {
    box-shadow: inset 0 0 0 1px color-mix(in srgb, currentColor 60%, transparent); }  /* or too faint */
.st-key-stage h1 { font-size: 1.35rem; padding: 0; }
.st-key-canvas { position: sticky; top: 3.5rem; z-index: 90; }
@media (min-width: 900px) {  /* all in sight: what a panel has too much of scrolls within it */
    .st-key-panel [role="tabpanel"] { max-height: calc(100vh - 25.5rem); min-height: 14rem; overflow-y: auto;
        overflow-x: hidden; padding-right: 0.5rem; }
}
@media (max-width: 899px) {
    .stTable td:first-child { min-width: 11rem; }
}
@media (max-width: 640px) {  /* Streamlit's own width for one column: the photo sticks, its tools do not */
    .st-key-stage :has(.cb-stage) { display: contents; }
    .st-key-stage [data-testid="stColumn"] { width: 100% !important; flex: none !important; }
    .st-key-stage { --cb-top: 3.5rem; }
}
@media (min-width: 641px) { .st-key-elsewhere { display: none; } }
</style>"""


def main() -> None:
    room.limit_uploads()
    st.set_page_config(about.TITLE, "🔎", layout="wide", initial_sidebar_state="collapsed")
    st.html(STYLE)
    pages = [
        st.Page(explorer, title=about.EXPLORE, icon=":material/search:", default=True),
        st.Page(many, title=many_says.TITLE, icon=":material/photo_library:", url_path="many"),
        st.Page(results.show, title=results_say.TITLE, icon=":material/leaderboard:", url_path="results"),
    ]
    page = st.navigation(pages, position="top")
    page.run()
    with st.container(horizontal=True, key="elsewhere"):  # on a phone, where Streamlit hides the way there
        for other in pages:
            if other.title != page.title:
                st.page_link(other)


def explorer() -> None:
    """The photo at the left, what is said of it at the right. The right is worked out first: the left
    shows what is set there."""
    with st.container(key="stage"):
        left, right = st.columns([0.5, 0.5], gap="medium")
    with right:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.title(about.TITLE, anchor=False)
            expert = st.toggle(says.EXPERT, key="expert", bind="query-params", help=says.EXPERT_HELP)
            try:
                with st.popover(says.TITLE, icon=":material/tune:"):
                    settings = choose_settings()
            except CaptionBotError as error:
                st.error(plain(str(error)), icon=":material/error:")
                return
        above, panel = st.container(), st.container(key="panel")
    with left, st.container(key="uploads"):
        st.file_uploader(
            about.PHOTO, "image", max_upload_size=MAX_PHOTO_MEGABYTES, key="upload", on_change=adopt_upload
        )
    with above:
        if wrong := st.session_state.get("wrong setting"):  # for whoever has closed the settings
            st.warning(plain(wrong), icon=":material/spellcheck:")
        photo = chosen_photo()
    seen = None
    with right:
        for asked in candidates(photo, settings):
            try:
                shown, captioned = work.display(asked.photo), WORK.caption(asked)
            except CaptionBotError as error:
                above.error(plain(str(error)), icon=":material/error:")
                continue
            st.session_state["good"] = asked
            seen = explore(asked, shown, captioned, left, above, panel, expert)
            break
    if seen is None:
        with left:
            canvas.part("photo", empty(), on_photo)


def candidates(photo: PhotoFile | None, settings: Settings) -> list[Asked]:
    """What is asked, then what was answered last, which stays where that cannot be."""
    asked = [Asked(photo, settings)] if photo is not None else []
    last = st.session_state.get("good")
    if last is not None and last not in asked and last.settings.model in WORK.captioners():
        asked.append(last)
    return asked


def many() -> None:
    try:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.title(many_says.TITLE, anchor=False)
            with st.popover(says.TITLE, icon=":material/tune:"):
                settings = choose_settings()
        batch.show(settings, turn_to)
    except CaptionBotError as error:
        st.error(plain(str(error)), icon=":material/error:")


def turn_to(photo: PhotoFile) -> None:
    """Go to the explorer with a photo of the gallery."""
    keep_photo(photo)
    st.switch_page(st.Page(explorer, default=True))


def explore(
    asked: Asked, shown: Image.Image, captioned: Captioned, left: Any, above: Any, panel: Any, expert: bool
) -> Seen:
    """Photo, sentence and views. What the visitor did to them is undone with the next photo."""
    whole = Seen(WORK, asked, shown, captioned, look=words.look())
    touched = hands.of(asked)
    with panel:
        names = presenters.views_of(whole.caption)
        titles = [presenters.title(name) for name in names]
        tabs = st.tabs(titles, key="view", on_change="rerun", bind="query-params")
    try:
        seen = says_canvas.after(whole, touched)
    except CaptionBotError as error:
        above.warning(plain(str(error)), icon=":material/spellcheck:")
        touched = st.session_state.get("before", Touched())
        hands.keep(asked, touched)
        seen = says_canvas.after(whole, touched)
    before = captioned.captions[0] if touched != Touched() else None
    with tabs[names.index("words")]:
        if not touched.edited:
            seen = replace(seen, rank=words.choose_caption(seen.captioned, expert))
    with above:
        canvas.part("sentence", says_canvas.words(seen, before, touched, expert), hands.teller(asked, seen))
        hub.ask(seen)
        hub.progress()
    with left, st.container(key="canvas"):
        sources = says_canvas.sources(
            UPLOADER, st.session_state.get("sample", ""), st.query_params.get("url", "")
        )
        canvas.part("photo", says_canvas.photo(whole, touched, **sources), on_photo)
    for tab, name in zip(tabs, names, strict=True):
        if tab.open:  # the others are worked out when they are opened
            with tab:
                import_module(f"captionbot.pages.streamlit.{name}").show(seen)
    return seen


def empty() -> dict[str, Any]:
    """The place of the photo without one."""
    return says_canvas.empty(**says_canvas.sources(UPLOADER))


def on_photo(given: Any) -> None:
    """A sample, an address, or a part of the photo that is to be hidden."""
    try:
        event, value = says_canvas.event(given)
        if event == "sample" and value in sample_photos():
            keep_photo(sample_photo(value), sample=value)
        elif event == "link":
            url = checked_text(str(value), about.ADDRESS).strip()
            keep_photo(PhotoFile(url, work.fetch_photo(url)), url=url)
        else:
            hands.did(event, value)
    except CaptionBotError as error:
        st.session_state["photo problem"] = str(error)


def adopt_upload() -> None:
    file = st.session_state["upload"]
    if file is not None:
        photo = PhotoFile(file.name, file.getvalue())
        try:
            photo.decode()
        except CaptionBotError as error:
            st.session_state["photo problem"] = str(error)
        else:
            keep_photo(photo)


def keep_photo(photo: PhotoFile, **known: str) -> None:
    """Have the visit go on with a photo; known: where others find it, as the page's address says it."""
    st.session_state["photo"], st.session_state["sample"] = photo, known.get("sample", "")
    for name in ("sample", "url"):
        if known.get(name):
            st.query_params[name] = known[name]
        else:
            st.query_params.pop(name, None)


def sample_photo(name: str) -> PhotoFile:
    path = sample_photos()[name]
    return PhotoFile(path.name, path.read_bytes())


def chosen_photo() -> PhotoFile | None:
    """The visitor's photo, or that of the page's address, or the first sample: the page is never empty."""
    problem = st.session_state.pop("photo problem", None)
    if "photo" not in st.session_state:
        samples, url = sample_photos(), st.query_params.get("url", "").strip()
        asked = st.query_params.get("sample", "")
        name = asked if asked in samples else next(iter(samples), "")
        try:
            if url:
                keep_photo(PhotoFile(url, work.fetch_photo(url)), url=url)
        except CaptionBotError as error:
            problem = str(error)
        if "photo" not in st.session_state and name:
            keep_photo(sample_photo(name), **({"sample": name} if asked else {}))
            st.session_state["sample"] = name
    if problem:
        st.error(plain(problem), icon=":material/error:")
    return st.session_state.get("photo")


def choose_settings() -> Settings:
    expert = bool(st.session_state.get("expert"))
    model = choose_captioner()
    card = WORK.card(model)
    usual = WORK.usual(model)
    given = {name: says.first(name, usual) for name in SETTINGS}
    given["captions"] = slider("captions", usual)
    different = st.toggle(
        says.DIFFERENT.label, key="different", bind="query-params", help=says.DIFFERENT.help
    )
    st.pills(says.BEGINNING.label, BEGINNINGS, key="beginning", on_change=begin, help=says.BEGINNING.help)
    st.session_state.pop("wrong setting", None)
    prefix, banned = known_words("prefix", says.PREFIX, model), known_words("banned", says.BANNED, model)
    if expert:
        given["beam_size"] = slider("beam_size", usual)
        with st.expander(says.MORE):
            given |= more_options(usual)
            words.choose_look()
    hub.choose()
    own_captioner()
    describe(card)
    return Settings(model, says.search(given, usual, different), prefix, (banned,))


def known_words(key: str, setting: says.Setting, model: str) -> str:
    """What is typed into a field; where the captioner cannot have that, why stands below it, and what was
    typed before goes on."""
    given, known = text(key, setting).strip(), st.session_state.setdefault("known words", {})
    problem = problem_with(model, *((given, "") if key == "prefix" else ("", given)))
    if problem:
        st.error(plain(problem), icon=":material/spellcheck:")
        st.session_state["wrong setting"] = problem
    else:
        known[model, key] = given
    return str(known.get((model, key), ""))


def begin() -> None:
    """A preset in the place of the beginning that was typed."""
    st.session_state["prefix"] = st.session_state["beginning"] or ""


def problem_with(model: str, prefix: str, banned: str) -> str:
    """Why a captioner cannot begin with some words or avoid others, "" where it can."""
    try:
        Settings(model, SearchOptions(), prefix, (banned,))
        if prefix or banned.strip():
            WORK.understood(model, prefix, (banned,))
    except CaptionBotError as error:
        return str(error)
    return ""


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
        setting.low,  # at first; where a first value is named none may be drawn
        setting.high,
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
