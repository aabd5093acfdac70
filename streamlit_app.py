"""The Streamlit page: `streamlit run streamlit_app.py`. Widgets only; captionbot works everything out.

Photos stay in memory. Sessions share one captioner and one bounded cache of captions, keyed by the
photo's bytes and the settings, so that nothing is computed twice and nothing is mixed up.
"""

from __future__ import annotations

import io
import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from PIL import Image

from captionbot import CaptionBotError, render
from captionbot.card import Card
from captionbot.images import load_image
from captionbot.records import record
from captionbot.render import Look, plain
from captionbot.samples import sample_photos
from captionbot.search_options import SearchOptions
from captionbot.types import Caption, Captioned
from captionbot.urls import fetch
from captionbot.weights import find_card, list_cards

if TYPE_CHECKING:  # torch takes seconds to import: the page is there before that
    from captionbot import Captioner

MAX_MEGABYTES = 20
COLOURS = {
    "inferno": "Fire",
    "viridis": "Green to yellow",
    "cividis": "Blue to yellow",
    "spotlight": "Spotlight",
}
HERO_HEIGHT = 540  # pixels: photo, caption and words fit on a laptop's screen together

STYLE = """<style>
.stMainBlockContainer { padding-top: 2rem; padding-bottom: 3rem; max-width: 1240px; }
.stImage img { border-radius: 0.75rem; }
</style>"""

CONFIDENCE_HELP = (
    "How sure the model is of its wording: the geometric mean of the probabilities of the words. "
    "It is not the chance that the caption is true."
)
LOG_PROB_HELP = "The natural logarithm of the probability of the whole sentence: closer to 0 is likelier."
TIPS = """
- People, dogs, sports, beaches, streets and snow are what it has seen most.
- One clear subject in daylight works best; screenshots, text, food and close-ups work poorly.
- It counts badly, guesses colours in poor light, and names nobody.
- Not happy? Raise the beam size, ask for more captions, or start the sentence yourself.
"""


@dataclass(frozen=True)
class Photo:
    """A photo as it came: its name and the bytes of its file."""

    name: str
    data: bytes

    def decode(self, at_least: int | None = None) -> Image.Image:
        """The image, as of `load_image`; CaptionBotError, with the file's name, where it is none."""
        file = io.BytesIO(self.data)
        file.name = self.name
        return load_image(file, at_least)


@dataclass(frozen=True)
class Settings:
    """What the sidebar says: which captioner, how it searches, how sentences begin, what they avoid."""

    model: str
    options: SearchOptions
    prefix: str
    banned_words: tuple[str, ...]


@st.cache_resource(max_entries=2, show_spinner="Waking the captioner…")
def load_captioner(model: str) -> Captioner:
    from captionbot import Captioner

    return Captioner.from_pretrained(model)


@st.cache_data(max_entries=32, ttl=3600, show_spinner=False)
def display_photo(photo: Photo) -> Image.Image:
    return render.fit(photo.decode(at_least=render.DISPLAY), render.DISPLAY)


@st.cache_data(max_entries=256, ttl=3600, show_spinner="Looking at the photo…")
def caption_photo(photo: Photo, settings: Settings) -> Captioned:
    return load_captioner(settings.model).caption(
        [photo.decode()], settings.options, prefix=settings.prefix, banned_words=settings.banned_words
    )[0]


@st.cache_data(max_entries=8, ttl=600, show_spinner="Fetching the photo…")
def fetch_photo(url: str) -> bytes:
    return fetch(url)


@st.cache_data(max_entries=8, ttl=60)
def load_card(model: str) -> Card:
    return Card.load(find_card(model))


def main() -> None:
    st.set_page_config("CaptionBot", "🔎", layout="wide")
    st.html(STYLE)
    st.title("CaptionBot", anchor=False)
    st.markdown("Drop in a photo. CaptionBot says what it sees, and shows where it looked for every word.")
    try:
        with st.sidebar:
            settings = choose_settings()
        photo = choose_photo()
        if photo is None:
            return
        shown = display_photo(photo)
        captioned = caption_photo(photo, settings)
    except CaptionBotError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    explore(photo.name, settings.model, shown, captioned)


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
        )
        if source == "Upload":
            file = st.file_uploader(
                "Photo", "image", max_upload_size=MAX_MEGABYTES, label_visibility="collapsed", key="upload"
            )
            if file is not None:
                return Photo(file.name, file.getvalue())
        elif source == "Link":
            url = st.text_input(
                "Link", placeholder="https://… address of a photo", label_visibility="collapsed", key="url"
            ).strip()
            if url:
                return Photo(url, fetch_photo(url))
        elif source == "Samples" and samples:
            name = st.pills(
                "Sample",
                list(samples),
                default=name,
                required=True,
                label_visibility="collapsed",
                key="sample",
            )
    if source == "Camera":
        # Mounted only when asked for: the browser wants permission as soon as it is on the page.
        shot = st.camera_input("Take a photo", label_visibility="collapsed", key="camera")
        if shot is not None:
            return Photo("camera.jpg", shot.getvalue())
    return Photo(samples[name].name, samples[name].read_bytes()) if name else None


def choose_settings() -> Settings:
    names = [path.stem for path in list_cards()]
    model = find_card().stem
    if len(names) > 1:
        model = st.selectbox("Captioner", names, names.index(model), key="model")
    card = load_card(model)
    usual = SearchOptions(**card.search)
    beam_size = st.slider(
        "Beam size",
        1,
        10,
        min(usual.beam_size, 10),
        key="beam_size",
        help="How many sentences are kept in play while the caption is written. 1 takes the likeliest word "
        "each time; more finds likelier sentences and takes longer.",
    )
    captions = st.slider(
        "Captions", 1, 10, 3, key="captions", help="How many to show, best first; at most the beam size."
    )
    prefix = st.text_input(
        "Start the caption with…",
        placeholder="two children",
        key="prefix",
        help="The model finishes your sentence.",
    ).strip()
    banned = st.text_input(
        "Words to avoid", placeholder="man, shirt", key="banned", help="Separated by commas or spaces."
    )
    with st.expander("More options"):
        options = more_options(usual, beam_size, captions)
    about(card)
    return Settings(model, options, prefix, tuple(re.findall(r"[^\s,;]+", banned)))


def more_options(usual: SearchOptions, beam_size: int, captions: int) -> SearchOptions:
    shortest, longest = st.slider(
        "Length in words", 1, 40, (usual.min_length, usual.max_length), key="length"
    )
    length_penalty = st.slider(
        "Length penalty",
        0.0,
        2.0,
        float(usual.length_penalty),
        0.1,
        key="length_penalty",
        help="0 ranks sentences by probability alone, which favours short ones; more favours long ones.",
    )
    no_repeat_ngram_size = st.slider(
        "No repeat of so many words",
        0,
        5,
        usual.no_repeat_ngram_size,
        key="no_repeat",
        help="No run of so many words is said twice; 0 allows it.",
    )
    sampling = st.toggle(
        "Sampling",
        key="sampling",
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
            "Temperature", 0.1, 2.0, 1.0, key="temperature", help="Lower is safer, higher is wilder."
        ),
        "top_k": st.slider(
            "Top k", 0, 100, 0, key="top_k", help="Draw from the k likeliest words; 0 is all."
        ),
        "top_p": st.slider(
            "Top p",
            0.05,
            1.0,
            0.9,
            key="top_p",
            help="Draw from the likeliest words that hold this probability.",
        ),
    }
    st.button("Draw again", icon=":material/casino:", on_click=draw_again, width="stretch", key="draw_again")
    return {"sample": True, "seed": st.session_state.get("seed", 0), **options}


def draw_again() -> None:
    st.session_state["seed"] = random.randrange(2**31)


def about(card: Card) -> None:
    with st.expander("Tips"):
        st.markdown(TIPS)
    with st.expander("About this captioner"):
        st.markdown(plain(card.description))
        scores = [f"{name} {value:.3f}" for name, value in card.scores.items() if isinstance(value, float)]
        facts = [f"{card.parameters / 1e6:.1f} million parameters", *scores, card.licence]
        st.caption(" · ".join(plain(fact) for fact in facts if fact))
    st.caption("Captions can be wrong. Your photos are not stored.")


@st.fragment
def explore(name: str, model: str, photo: Image.Image, captioned: Captioned) -> None:
    """Photo, captions and words. A click in here runs this function again and nothing else."""
    share = min(max(0.62 * photo.width / photo.height, 0.4), 0.58)  # of the page's width
    left, right = st.columns([share, 1 - share], gap="medium")
    with right:
        above = st.container()
        caption = choose_caption(captioned)
        with above:
            st.header(plain(render.sentence(caption.text)), anchor=False)
            st.caption(f"Confidence {render.percent(caption.confidence)}", help=CONFIDENCE_HELP)
            t = choose_word(caption)
            with st.container(horizontal=True, gap="xsmall"):
                look = choose_look()
                copy(captioned)
                download(name, model, photo, captioned, caption, look)
    with left:
        hero(photo, caption, t, look)
    st.subheader("Every word", anchor=False)
    gallery(photo, caption, look)


def choose_caption(captioned: Captioned) -> Caption:
    captions = captioned.captions
    if len(captions) == 1:
        return captions[0]
    chosen = st.radio(
        "Captions, best first",
        range(len(captions)),
        format_func=labels([render.sentence(caption.text) for caption in captions]).__getitem__,
        captions=[
            f"Confidence {render.percent(caption.confidence)} · log-probability {caption.log_prob:.1f}"
            for caption in captions
        ],
        help=LOG_PROB_HELP,
        key=" / ".join(caption.text for caption in captions),
    )
    return captions[chosen]


def choose_word(caption: Caption) -> int | None:
    t = st.pills(
        "Click a word to see where the model looked",
        range(len(caption.words)),
        format_func=labels([word.text for word in caption.words]).__getitem__,
        wrap=True,
        key=f"word of {caption.text}",
    )
    if t is None:
        return None
    word = caption.words[t]
    st.caption(f"“{plain(word.text)}” had a probability of {render.percent(math.exp(word.log_prob))} here.")
    return t


def choose_look() -> Look:
    with st.popover("Heatmap", icon=":material/tune:"):
        shape = st.segmented_control(
            "Shape", ["Smooth", "Cells"], default="Smooth", required=True, key="shape"
        )
        strength = st.slider("Strength", 0.1, 1.0, 0.6, key="strength")
        colormap = st.selectbox("Colours", list(COLOURS), format_func=COLOURS.__getitem__, key="colormap")
    return Look(shape == "Smooth", strength, colormap)


def copy(captioned: Captioned) -> None:
    with st.popover("Copy", icon=":material/content_copy:"):
        for caption in captioned.captions:
            st.code(render.sentence(caption.text), language=None, wrap_lines=True)


def download(
    name: str, model: str, photo: Image.Image, captioned: Captioned, caption: Caption, look: Look
) -> None:
    """Files that are made only when they are asked for."""
    files: dict[str, tuple[str, str, Callable[[], str | bytes]]] = {
        "Every word (PNG)": (
            "png",
            "image/png",
            lambda: render.png(render.contact_sheet(photo, caption, look)),
        ),
        "Word by word (GIF)": (
            "gif",
            "image/gif",
            lambda: render.gif(render.animation(photo, caption, look)),
        ),
        "Captions and attention (JSON)": (
            "json",
            "application/json",
            lambda: json.dumps(record(name, model, captioned, with_alphas=True), ensure_ascii=False),
        ),
    }
    stem = Path(name).stem or "photo"
    with st.popover("Download", icon=":material/download:"):
        for label, (ending, mime, make) in files.items():
            st.download_button(
                label, make, f"{stem}.{ending}", mime, on_click="ignore", width="stretch", key=ending
            )


def hero(photo: Image.Image, caption: Caption, t: int | None, look: Look) -> None:
    alt = render.sentence(caption.text)
    if t is not None:
        alt = f"{alt} Brighter: where the model looked for “{caption.words[t].text}”."
        photo = render.word_overlay(photo, caption, t, look)
    show(photo, alt, max(1, photo.width * HERO_HEIGHT // photo.height))


def gallery(photo: Image.Image, caption: Caption, look: Look) -> None:
    small = render.fit(photo, 360)
    with st.container(horizontal=True, gap="small"):
        for t, word in enumerate(caption.words):
            with st.container(width=164, gap=None):
                picture = render.word_overlay(small, caption, t, look)
                show(picture, f"Where the model looked for “{word.text}”.", 164)
                st.caption(f"**{plain(word.text)}** · {render.percent(math.exp(word.log_prob))}")


def show(picture: Image.Image, alt: str, width: int) -> None:
    st.image(picture, width=width, output_format="JPEG", alt=alt)


def labels(texts: list[str]) -> list[str]:
    """Texts as labels of choices. Streamlit tells choices apart by their labels, and a sentence may well
    say a word twice, so every repetition carries one more invisible word joiner."""
    return [plain(text) + "\u2060" * texts[:index].count(text) for index, text in enumerate(texts)]


if __name__ == "__main__":
    main()
