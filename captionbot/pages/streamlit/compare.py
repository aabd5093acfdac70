"""Photos by captioners: what each says of each, where they differ, how long it takes, where they look."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from captionbot.pages.presenters import compare as says
from captionbot.pages.presenters.compare import Compared
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.samples import sample_photos
from captionbot.text.display import plain


def show(seen: Seen) -> None:
    titles = seen.work.captioners()
    if len(titles) < says.LEAST:
        st.info(says.ALONE)
        return
    chosen = st.multiselect(
        says.CAPTIONERS,
        list(titles),
        default=[seen.model, *(name for name in titles if name != seen.model)][: says.FIRST],
        max_selections=says.MOST,
        format_func=titles.__getitem__,
        key="compared",
        help=says.CAPTIONERS_HELP,
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        samples = st.multiselect(
            says.PHOTOS,
            list(sample_photos()),
            max_selections=says.MORE_PHOTOS,
            key="compared photos",
            help=says.PHOTOS_HELP,
        )
        choice = st.empty()
        asked = st.button(says.BUTTON, type="primary", disabled=len(chosen) < says.LEAST, key="compare")
    here = st.empty()
    if asked:
        for known in says.present(seen, chosen, samples):
            st.session_state["answers"] = seen.photo.key, known  # what there is stays if it is left half-way
            here.html(says.html(known, look=seen.look))
    photo, answers = st.session_state.get("answers", ("", None))
    if photo == seen.photo.key:
        shown(answers, choice, here, seen)


def shown(compared: Compared, choice: Any, here: Any, seen: Seen) -> None:
    """What captioners said, with the maps of one word."""
    words = compared.words
    word = choice.selectbox(says.WORD, words, format_func=plain, key="compared word") if words else ""
    here.html(says.html(replace(compared, doing=""), word or "", seen.look))
