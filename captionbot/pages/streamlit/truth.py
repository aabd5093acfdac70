"""Does a word rest on what its heatmap shows? The photo is hidden and shown piece by piece to find out."""

from __future__ import annotations

import streamlit as st

from captionbot.errors import CaptionBotError
from captionbot.pages.presenters import truth as says
from captionbot.pages.presenters.learn import HEATMAP_TEST
from captionbot.pages.presenters.seen import WHOLE, Picture, Seen
from captionbot.pages.presenters.truth import Tested
from captionbot.pages.streamlit.view import choose_one_word, lesson, table, within
from captionbot.pages.streamlit.view import show as picture
from captionbot.text.display import plain


def show(seen: Seen) -> None:
    st.caption(says.INTRODUCTION)
    t = choose_one_word(seen, says.WORD, "tested word")
    try:
        tested = says.present(seen, t)
    except CaptionBotError as error:
        st.warning(plain(str(error)))
        return
    verdict = st.success if tested.holds else st.warning
    icon = ":material/check_circle:" if tested.holds else ":material/help:"
    verdict(f"**{tested.verdict}** {tested.reason}", icon=icon)
    left, right = st.columns(2, gap="medium")
    with left:
        heatmap(says.ATTENTION, tested.attention)
    with right:
        heatmap(says.OCCLUSION, tested.occlusion)
    st.markdown(f"##### {plain(tested.stays)}")
    curves(tested)
    every_word(seen)
    many_photos(seen)
    lesson(HEATMAP_TEST)


def heatmap(title: str, drawn: Picture | None) -> None:
    st.markdown(f"##### {title}")
    if drawn is None:
        st.caption(WHOLE)
    else:
        picture(drawn.image, drawn.text, within(drawn.image))


def curves(tested: Tested) -> None:
    """The word's log-probability as ever more of the photo is hidden or shown."""
    st.html(f"<small>{tested.legend}</small>")
    st.vega_lite_chart(
        {
            "data": {"values": tested.curves},
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {"field": says.SHARE, "type": "quantitative", "title": says.SHARE},
                "y": {"field": says.LOG_PROB, "type": "quantitative", "title": says.LOG_PROB},
                "color": {
                    "field": says.CURVE,
                    "type": "nominal",
                    "scale": {"domain": list(tested.colours), "range": list(tested.colours.values())},
                    "legend": None,
                },
            },
        },
        height=300,
    )


def every_word(seen: Seen) -> None:
    key = f"all words of {seen.photo.key} {seen.caption.text}"
    if st.button(says.TEST_ALL, key="test all", help=says.TEST_ALL_HELP):
        st.session_state[key] = True
    if st.session_state.get(key):
        tested = says.every_word(seen)
        st.caption(tested.text)
        table(tested)


def many_photos(seen: Seen) -> None:
    measured = says.parts_of_speech(seen)
    if measured is not None:
        with st.expander(measured.text, icon=":material/photo_library:"):
            table(measured)
            st.caption(says.PARTS_NOTE)
