"""What each word needs of the photo: pieces of it are hidden to find out, and the maps are tested."""

from __future__ import annotations

from typing import Any

import streamlit as st

from captionbot.errors import CaptionBotError
from captionbot.explain.needs import Needs
from captionbot.pages.presenters import truth as says
from captionbot.pages.presenters.charts import html
from captionbot.pages.presenters.learn import HEATMAP_TEST
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.presenters.truth import Told
from captionbot.pages.streamlit.view import choose_one_word, lesson, table, within
from captionbot.pages.streamlit.view import show as picture
from captionbot.text.display import plain
from captionbot.types import Caption

SIDE = 205  # pixels of the verdict and of each of its pictures: three fit beside the photo


def show(seen: Seen) -> None:
    st.caption(says.INTRODUCTION)
    with st.container(horizontal=True):
        t = choose_one_word(seen, says.WORD, "tested word")
        chosen = says.NEEDED
        if seen.attends:
            chosen = st.segmented_control(
                says.MAP, says.MAPS, default=says.NEEDED, required=True, key="tested map"
            )
        text = st.text_input(says.SENTENCE, help=says.SENTENCE_HELP, key="own sentence")
    here = st.empty()
    try:
        own: Caption | None = None
        if text.strip():
            own = seen.work.sentence(seen.asked, text)
            t = min(t, len(own.words) - 1)
        fresh = own is None and seen.work.known_needs(seen.model, seen.photo, seen.caption) is None
        for found in says.stages(seen, own):
            with here.container():
                draw(seen, found, t, own, chosen == says.LOOKED)
        if fresh:
            st.rerun()  # photo and sentence above show it from now on
    except CaptionBotError as error:
        st.warning(plain(str(error)))
    many_photos(seen)
    lesson(HEATMAP_TEST)


def draw(seen: Seen, found: Needs, t: int, own: Caption | None, looked: bool) -> None:
    """What is found so far of the sentence and of word t."""
    st.html(says.marked_html(found))
    told = says.word(seen, found, t, own)
    shown = told.looked if looked and told.looked is not None else told.needed
    with st.container(horizontal=True):  # side by side where there is room
        with st.container(width=SIDE):
            if found.done:
                st.markdown(f"##### {plain(told.verdict)}")
                st.metric(says.HIDDEN, told.change)
                st.caption(plain(told.reason))
            else:
                st.caption(says.progress(found))
        for one in (shown, told.hidden):
            picture(one.image, one.text, min(SIDE, within(one.image, 300)))
    plot(told)
    if found.done:
        every = says.every_word(found)
        st.caption(every.text)
        table(every)


def plot(told: Told) -> None:
    """Where this word's map stands among random ones."""
    x: dict[str, Any] = {"field": says.AGREEMENT, "type": "quantitative", "title": says.AGREEMENT}
    colours = {"domain": list(says.COLOURS), "range": list(says.COLOURS.values())}
    st.vega_lite_chart(
        {
            "data": {"values": told.chance},
            "mark": {"type": "bar", "width": 5},
            "encoding": {
                "x": {**x, "scale": {"domain": [-1, 1]}},
                "y": {"field": says.COUNT, "type": "quantitative", "title": says.COUNT},
                "color": {
                    "field": says.KIND,
                    "type": "nominal",
                    "scale": colours,
                    "legend": {"orient": "bottom", "title": None},
                },
            },
        },
        height=240,
    )
    st.caption(plain(told.plot))


def many_photos(seen: Seen) -> None:
    measured = says.parts_of_speech(seen)
    if measured is None:
        return
    with st.expander(measured.title, icon=":material/photo_library:"):
        st.html(html(measured))
