"""The photo, its caption as chips, and where the model looked for each word."""

from __future__ import annotations

import streamlit as st

from captionbot.draw.overlays import LOOK, Look
from captionbot.pages.presenters import learn
from captionbot.pages.presenters import words as says
from captionbot.pages.presenters.seen import WHOLE, Seen, measures, probability
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.view import labels, lesson
from captionbot.pages.streamlit.view import show as picture
from captionbot.text.display import percent, plain, sentence
from captionbot.types import Captioned


def choose_caption(captioned: Captioned, expert: bool) -> int:
    captions = captioned.captions
    if len(captions) == 1:
        return 0
    chosen: int = st.radio(
        says.CAPTIONS,
        range(len(captions)),
        format_func=labels([sentence(caption.text) for caption in captions]).__getitem__,
        captions=[measures(caption) for caption in captions] if expert else None,
        help=says.LOG_PROB_HELP if expert else None,
        key=" / ".join(caption.text for caption in captions),
    )
    return chosen


def choose_look() -> None:
    smooth = says.SHAPES[0]
    st.segmented_control(
        says.SHAPE, says.SHAPES, default=smooth, required=True, key="shape", bind="query-params"
    )
    st.slider(says.STRENGTH, 0.1, 1.0, LOOK.strength, key="strength", bind="query-params")
    st.selectbox(
        says.COLOURS,
        list(says.COLOURS_OF),
        format_func=says.COLOURS_OF.__getitem__,
        key="colormap",
        bind="query-params",
    )


def look() -> Look:
    """How heatmaps are drawn, as `choose_look` was left."""
    smooth, _, contour = says.SHAPES
    shape = st.session_state.get("shape", smooth)
    strength, colormap = (
        st.session_state.get(name, getattr(LOOK, name)) for name in ("strength", "colormap")
    )
    return Look(shape == smooth, strength, colormap, shape == contour)


def show(seen: Seen) -> None:
    """A small heatmap for every word."""
    if not seen.attends and seen.t is None:
        st.caption(WHOLE)
        return
    st.caption(says.EVERY)
    tiles = work.tiles(seen.photo, seen.looked, seen.look)
    with st.container(horizontal=True, gap="small"):
        for t, (word, tile) in enumerate(zip(seen.caption.words, tiles, strict=True)):
            with st.container(width=164, gap=None):
                picture(tile, seen.where(t), 164)
                st.caption(f"**{plain(word.text)}** · {percent(probability(word))}")
    lesson(learn.attention(seen))
