"""For captioners that describe detected boxes: what was found, and which word leaned on which."""

from __future__ import annotations

import streamlit as st

from captionbot import render
from captionbot.render import sentence
from streamlit_views.view import View, labels
from streamlit_views.view import show as picture


def show(view: View) -> None:
    caption = view.caption
    places = len(caption.boxes)
    left, right = st.columns(2, gap="medium")
    with left:
        most = st.slider("Boxes to draw", 1, places, min(10, places), key="boxes drawn") if places > 1 else 1
        least = 0.0
        if caption.scores is not None:
            least = st.slider("Score at least", 0.0, 1.0, 0.0, 0.05, key="box score")
        drawn = render.regions(view.shown, caption, view.t, most, least)
        picture(drawn, f"{sentence(caption.text)} With the boxes that it leaned on.", "stretch")
    names = labels([render.box_name(caption, place) for place in range(places)])
    words = labels([f"{t + 1} {word.text}" for t, word in enumerate(caption.words)])
    with right:
        st.caption("How much of each word's attention every box got, in %.")
        st.dataframe(
            {"Box": names} | {word: (100 * caption.alphas[t]).round(1) for t, word in enumerate(words)},
            hide_index=True,
            alt="A table of boxes and words: the share of each word's attention that every box got.",
        )
