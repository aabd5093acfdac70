"""For captioners that describe detected boxes: what was found, how much attention each word gave each box,
and what is said without some of them."""

from __future__ import annotations

import streamlit as st

from captionbot.errors import CaptionBotError
from captionbot.pages.presenters import learn
from captionbot.pages.presenters import regions as says
from captionbot.pages.presenters.charts import html
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.streamlit.view import labels, lesson, side_by_side, within
from captionbot.pages.streamlit.view import show as picture
from captionbot.text.display import plain


def show(seen: Seen) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        place_of_picture = st.container()
        asked = choose_boxes(seen)
    try:
        said, sides = says.present(seen, *asked)
    except CaptionBotError as error:
        st.warning(plain(str(error)))
        return
    with place_of_picture:
        drawn = says.picture(seen, said)
        picture(drawn.image, drawn.text, within(drawn.image))
    with right:
        st.html(html(says.attention(said)))
    if said is not seen.caption:
        side_by_side(sides)
    lesson(learn.attention(seen))


def choose_boxes(seen: Seen) -> tuple[int, float, list[int]]:
    """How many boxes are left at most, their least score, and those that are not clicked away."""
    names = labels(says.names(seen.caption))
    places, key = range(len(names)), seen.photo.key
    if len(names) < 2:
        st.caption(says.NOTHING)
        return len(names), 0, list(places)
    most = st.slider(says.MOST, 1, len(names), len(names), key=f"most boxes of {key}")
    least = st.slider(says.LEAST, 0.0, 1.0, 0.0, 0.05, key="least score")
    ticked = st.pills(
        says.BOXES,
        places,
        default=list(places),
        selection_mode="multi",
        wrap=True,
        format_func=names.__getitem__,
        key=f"boxes of {key}",
    )
    return most, least, ticked
