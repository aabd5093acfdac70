"""What the views have worked out, each thing once: cached by the photo and the settings.

Photos stay in memory. Sessions share one captioner and bounded caches, keyed by the photo's content and
the settings, so that nothing is computed twice and nothing is mixed up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st
from PIL import Image

from captionbot.pages import fetching, work
from captionbot.pages import resident as pages
from captionbot.pages.resident import cards_here, resident, resident_upload, upload_key
from captionbot.pages.turns import turn
from captionbot.pages.work import PartlyHidden, Photo, PhotoFile, Settings, Work
from captionbot.store.card import Card
from captionbot.store.registry import find_card

if TYPE_CHECKING:  # torch takes seconds to import: the page is there before that
    from captionbot import Captioner

__all__ = ["WORK", "PhotoFile", "Settings"]

F = TypeVar("F", bound=Callable[..., Any])
KEPT = 3600  # seconds that something is kept after it was made
KEYS: Any = {
    PhotoFile: lambda photo: photo.key,
    PartlyHidden: lambda photo: photo.key,
    f"{__name__}.StreamlitWork": lambda work: "",  # what it knows of a session is in the names of models
}


def kept(entries: int, spinner: str | bool = False) -> Callable[[F], F]:
    return st.cache_data(  # type: ignore[return-value]  # a function of the same signature
        max_entries=entries, ttl=KEPT, show_spinner=spinner, hash_funcs=KEYS
    )


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
        with turn():
            captioner = resident_upload(files)
        # Caches are shared by all sessions: the name must differ where the files do.
        model = f"{captioner.name} (yours, {upload_key(files)[:12]})"
        st.session_state["own"] = Own(model, tuple(files), captioner.card)


class StreamlitWork(Work):
    """`Work` with Streamlit's caches, for what ships and the session's own captioner."""

    def captioners(self) -> dict[str, str]:
        own = own_captioner()
        return _shipped(tuple(cards_here())) | ({own.model: own.model} if own else {})

    def captioner(self, model: str) -> Captioner:
        """The one that is in memory: another takes its place. Streamlit's own cache would let the first go
        only once the second is there."""
        own = own_captioner()
        return resident_upload(own.files) if own and own.model == model else resident(model)

    def card(self, model: str) -> Card:
        own = own_captioner()
        return own.card if own and own.model == model else _shipped_card(model)

    # Tensors that nobody writes to: kept as they are, where cache_data would copy them at every use.
    encode = st.cache_resource(
        max_entries=64, ttl=KEPT, show_spinner="Looking at the photo…", hash_funcs=KEYS
    )(Work.encode)
    caption = kept(256, "Finding words…")(Work.caption)
    steer = kept(256, "Finishing the sentence…")(Work.steer)
    rivals = kept(256)(Work.rivals)
    gates = kept(256)(Work.gates)
    maps = kept(64, "Hiding pieces of the photo…")(Work.maps)
    beam_svg = kept(64)(Work.beam_svg)


WORK = StreamlitWork()


@st.cache_data(max_entries=8, ttl=60)
def _shipped_card(model: str) -> Card:
    return Card.load(find_card(model))


@st.cache_data(max_entries=8, ttl=60)
def _shipped(cards: tuple[Path, ...]) -> dict[str, str]:
    """cards: those that are here, so that new ones are read."""
    return pages.captioners()


@st.cache_data(max_entries=8, ttl=600, show_spinner="Fetching the photo…")
def fetch_photo(url: str) -> bytes:
    return fetching.fetch_photo(url)


@kept(16)
def display(photo: Photo) -> Image.Image:
    return work.display(photo)
