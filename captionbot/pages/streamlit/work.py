"""What the views have worked out, each thing once: cached by the photo and the settings.

Photos stay in memory. Sessions share one captioner and bounded caches, keyed by the photo's content and
the settings, so that nothing is computed twice and nothing is mixed up.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from PIL import Image

from captionbot.draw import beam_tree, render
from captionbot.draw.render import Look
from captionbot.explain import counterfactuals as explore
from captionbot.explain import maps as explain
from captionbot.explain.maps import Faithfulness
from captionbot.images.load import load_image
from captionbot.images.urls import fetch
from captionbot.pages import resident as pages
from captionbot.pages.resident import resident, resident_upload, upload_key
from captionbot.search.options import SearchOptions
from captionbot.store.card import Card
from captionbot.store.weights import find_card, list_cards
from captionbot.types import Caption, Captioned, Features, Size, Word

if TYPE_CHECKING:  # torch takes seconds to import: the page is there before that
    from captionbot import Captioner

KEPT = 3600  # seconds that something is kept after it was made
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Photo:
    """A photo as it came: its name and the bytes of its file."""

    name: str
    data: bytes

    @cached_property
    def key(self) -> str:
        """What caches know it by."""
        return f"{self.name} {hashlib.sha256(self.data).hexdigest()}"

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
    prefix: str = ""
    banned_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """One question to the captioner: a photo, the settings, and what of the photo is hidden.

    boxes: (xyxy as fractions of the photo) painted over, or all that is left where `others`.
    places: of a region captioner, taken away.
    """

    photo: Photo
    settings: Settings
    boxes: tuple[Box, ...] = ()
    others: bool = False
    places: tuple[int, ...] = ()


KEYS: Any = {Photo: lambda photo: photo.key}


def load_captioner(model: str) -> Captioner:
    """The one captioner that is in memory: another takes its place. Streamlit's own cache would let the
    first go only once the second is there."""
    own = own_captioner()
    return resident_upload(own.files) if own and own.model == model else resident(model)


def load_card(model: str) -> Card:
    own = own_captioner()
    return own.card if own and own.model == model else _shipped_card(model)


@st.cache_data(max_entries=8, ttl=60)
def _shipped_card(model: str) -> Card:
    return Card.load(find_card(model))


@dataclass(frozen=True)
class Own:
    """A captioner that this session's visitor uploaded: its name among the others, its files, its card."""

    model: str
    files: tuple[tuple[str, bytes], ...]
    card: Card


def own_captioner() -> Own | None:
    return st.session_state.get("own")


def keep_own(files: Sequence[tuple[str, bytes]]) -> None:
    """Have the session keep a captioner of its own, or none of no files.

    Raises CaptionBotError where the files are no captioner; the one before is gone then as well.
    """
    st.session_state.pop("own", None)
    if files:
        captioner = resident_upload(files)
        # Caches are shared by all sessions: the name must differ where the files do.
        model = f"{captioner.name} (yours, {upload_key(files)[:12]})"
        st.session_state["own"] = Own(model, tuple(files), captioner.card)


def captioners() -> dict[str, str]:
    """What there is to choose from, as titles by name: what ships, and this session's own."""
    own = own_captioner()
    return _shipped(tuple(list_cards())) | ({own.model: own.model} if own else {})


@st.cache_data(max_entries=8, ttl=60)
def _shipped(cards: tuple[Path, ...]) -> dict[str, str]:
    """cards: those that are here, so that new ones are read."""
    return pages.captioners()


def title(model: str) -> str:
    """What people are shown for a captioner's name."""
    return captioners().get(model, model)


@st.cache_data(max_entries=8, ttl=600, show_spinner="Fetching the photo…")
def fetch_photo(url: str) -> bytes:
    return fetch(url)


@st.cache_data(max_entries=16, ttl=KEPT, show_spinner=False, hash_funcs=KEYS)
def display_photo(photo: Photo) -> Image.Image:
    return render.fit(photo.decode(at_least=render.DISPLAY), render.DISPLAY)


def cover(size: tuple[int, int], boxes: tuple[Box, ...], others: bool) -> Image.Image:
    """`explore.cover` of boxes as fractions of the photo."""
    return explore.cover(size, (np.array(boxes) * np.array([*size] * 2)).tolist(), others=others)


# Tensors that nobody writes to: kept as they are, where cache_data would copy them at every use.
@st.cache_resource(max_entries=64, ttl=KEPT, show_spinner="Looking at the photo…", hash_funcs=KEYS)
def encode(photo: Photo, model: str, boxes: tuple[Box, ...], others: bool) -> tuple[Features, Size]:
    image = photo.decode()
    size = Size(*image.size)
    if boxes:
        image = explore.hide(image, cover(image.size, boxes, others))
    return load_captioner(model).encode([image]), size


def features_of(asked: Asked) -> tuple[Features, Size]:
    features, size = encode(asked.photo, asked.settings.model, asked.boxes, asked.others)
    if asked.places:
        features = explore.without_places(features, asked.places)
    return features, size


@st.cache_data(max_entries=256, ttl=KEPT, show_spinner="Finding words…", hash_funcs=KEYS)
def caption(asked: Asked) -> Captioned:
    settings = asked.settings
    features, size = features_of(asked)
    (captioned,) = load_captioner(settings.model).caption_features(
        features, [size], settings.options, prefix=settings.prefix, banned_words=settings.banned_words
    )
    return captioned


@st.cache_data(max_entries=256, ttl=KEPT, show_spinner="Finishing the sentence…", hash_funcs=KEYS)
def steer(asked: Asked, words: tuple[str, ...], banned_words: tuple[str, ...]) -> Captioned:
    """The caption finished again from words that it begins with."""
    features, size = features_of(asked)
    options = replace(asked.settings.options, num_return=1)
    return explore.steer(
        load_captioner(asked.settings.model), features, size, options, words, banned_words=banned_words
    )


@st.cache_data(max_entries=256, ttl=KEPT, show_spinner=False, hash_funcs=KEYS)
def rivals(asked: Asked, token_ids: tuple[int, ...]) -> tuple[tuple[Word, ...], ...]:
    """`explore.rivals` of one caption."""
    features, _ = features_of(asked)
    return explore.rivals(load_captioner(asked.settings.model), features, token_ids)


@st.cache_data(max_entries=256, ttl=KEPT, show_spinner=False, hash_funcs=KEYS)
def gates(asked: Asked, token_ids: tuple[int, ...]) -> np.ndarray | None:
    features, _ = features_of(asked)
    return explore.gates(load_captioner(asked.settings.model), features, token_ids)


@st.cache_data(max_entries=256, ttl=KEPT, show_spinner="Hiding pieces of the photo…", hash_funcs=KEYS)
def faithfulness(
    photo: Photo, model: str, caption: Caption, words: tuple[int, ...]
) -> tuple[Faithfulness, ...]:
    return explain.faithfulness(load_captioner(model), photo.decode(), caption, words)


@st.cache_data(max_entries=64, ttl=KEPT, show_spinner="Hiding pieces of the photo…", hash_funcs=KEYS)
def occlusion(photo: Photo, model: str, caption: Caption) -> Caption:
    """The caption with its occlusion maps in the place of its attention."""
    return explain.word_maps(load_captioner(model), photo.decode(), caption, "occlusion").on(caption)


@st.cache_data(max_entries=64, ttl=KEPT, show_spinner=False, hash_funcs=KEYS)
def beam_svg(asked: Asked, cut: bool) -> str:
    vocabulary = load_captioner(asked.settings.model).vocabulary
    return beam_tree.draw(
        caption(asked).search, lambda i: vocabulary.pieces([i])[0], vocabulary.eos_id, cut=cut
    )


@st.cache_data(max_entries=16, ttl=KEPT, show_spinner=False, hash_funcs=KEYS)
def tiles(photo: Photo, caption: Caption, look: Look) -> list[str]:
    """A small heatmap for every word, as data URLs: Streamlit would encode pictures anew at every click."""
    small = render.fit(display_photo(photo), 360)
    words = range(len(caption.words))
    return [render.data_url(render.word_overlay(small, caption, t, look)) for t in words]


@st.cache_data(max_entries=8, ttl=KEPT, show_spinner="Drawing…", hash_funcs=KEYS)
def gif(photo: Photo, caption: Caption, look: Look) -> bytes:
    return render.gif(render.animation(display_photo(photo), caption, look))


def timed_caption(asked: Asked) -> tuple[Captioned, float]:
    """A caption that is worked out anew, and the seconds from the photo's bytes to it.

    The captioner is woken before the clock starts.
    """
    captioner = load_captioner(asked.settings.model)
    started = time.perf_counter()
    (captioned,) = captioner.caption([asked.photo.decode()], asked.settings.options)
    return captioned, time.perf_counter() - started
