"""For captioners that describe detected boxes: what was found, which word leaned on which box, and what is
said without some of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from captionbot.draw import render
from captionbot.draw.render import plain, sentence
from captionbot.errors import CaptionBotError
from captionbot.pages.streamlit import learn, work
from captionbot.pages.streamlit.view import View, labels, side_by_side, within
from captionbot.pages.streamlit.view import show as picture
from captionbot.types import Caption


def show(view: View) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        place_of_picture = st.container()
        gone = taken_away(view)
    try:
        said = work.caption(replace(view.asked, places=gone)).captions[0] if gone else view.caption
    except CaptionBotError as error:
        st.warning(plain(str(error)))
        return
    with place_of_picture:
        drawn = render.regions(view.shown, said, None if gone else view.t, len(said.boxes))
        picture(drawn, f"{sentence(said.text)} With its {len(said.boxes)} boxes.", within(drawn))
    with right:
        st.caption("Which word leaned on which box: how much of its attention every box got, in %.")
        table(said)
    if gone:
        side_by_side(view.caption, said, ("All boxes", f"Without {len(gone)} of {len(view.caption.boxes)}"))
    if view.attends:
        learn.attention(view)


def taken_away(view: View) -> tuple[int, ...]:
    """The places that are left out: by their number, by their score, or by a click."""
    caption = view.caption
    places = range(len(caption.boxes))
    if len(places) < 2:
        st.caption("Nothing was detected: the photo is described as a whole.")
        return ()
    key = view.photo.key
    most = st.slider("Boxes at most", 1, len(places), len(places), key=f"most boxes of {key}")
    least = st.slider("Score at least", 0.0, 1.0, 0.0, 0.05, key="least score")
    scores = np.ones(len(places)) if caption.scores is None else caption.scores
    names = labels([render.box_name(caption, place) for place in places])
    ticked = st.pills(
        "Click a box to take it away: the photo is captioned again without it",
        places,
        default=list(places),
        selection_mode="multi",
        wrap=True,
        format_func=names.__getitem__,
        key=f"boxes of {key}",
    )
    return tuple(place for place in places if place >= most or place not in ticked or scores[place] < least)


def table(caption: Caption) -> None:
    places = range(len(caption.boxes))
    names = labels([render.box_name(caption, place) for place in places])
    words = labels([f"{t + 1} {word.text}" for t, word in enumerate(caption.words)])
    shares = (100 * caption.alphas).round(1)
    st.dataframe(
        {"Box": names} | {word: shares[t] for t, word in enumerate(words)},
        hide_index=True,
        column_config={
            "Box": st.column_config.TextColumn(pinned=True),
            **{
                word: st.column_config.ProgressColumn(
                    width="small", format="%.0f", min_value=0, max_value=100
                )
                for word in words
            },
        },
        alt="A table of boxes and words: the share of each word's attention that every box got.",
    )
