"""The captions of the photo, of which one is chosen, and how the captioner decides where to look."""

from __future__ import annotations

import streamlit as st

from captionbot.draw.overlays import LOOK, Look
from captionbot.pages.presenters import learn
from captionbot.pages.presenters import words as says
from captionbot.pages.presenters.seen import WHOLE, Seen, measures
from captionbot.pages.streamlit.view import labels, lesson
from captionbot.text.display import sentence
from captionbot.types import Captioned


def choose_caption(captioned: Captioned, expert: bool) -> int:
    captions = captioned.captions
    if len(captions) == 1:
        st.caption(says.ONE)
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
    if seen.attends:
        lesson(learn.attention(seen))
    else:
        st.caption(WHOLE)
