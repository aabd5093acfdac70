"""Does a word rest on what its heatmap shows? The photo is hidden and shown piece by piece to find out."""

from __future__ import annotations

import streamlit as st

from captionbot import render
from captionbot.errors import CaptionBotError
from captionbot.explain import Faithfulness
from captionbot.render import plain
from streamlit_views import work
from streamlit_views.view import View, choose_one_word
from streamlit_views.view import show as picture


def show(view: View) -> None:
    caption = view.caption
    t = choose_one_word(view, "Word", "tested word")
    try:
        (tested,) = work.faithfulness(view.photo, view.asked.settings.model, caption, (t,))
        occlusion = work.occlusion(view.photo, view.asked.settings.model, caption)
    except CaptionBotError as error:
        st.warning(plain(str(error)))
        return
    verdict(tested)
    left, right = st.columns(2, gap="medium")
    word = caption.words[t].text
    with left:
        st.markdown("##### Where it looked")
        if view.attends:
            drawn = render.word_overlay(view.shown, caption, t, view.look)
            picture(drawn, view.where(t), "stretch")
        else:
            st.caption("This captioner sees the photo as a whole.")
    with right:
        st.markdown("##### What it misses when hidden")
        drawn = render.word_overlay(view.shown, occlusion, t, view.look)
        picture(drawn, f"Where hiding a piece makes “{word}” less likely.", "stretch")
    st.markdown(f"##### How likely “{plain(word)}” stays")
    curves(tested)
    every_word(view)
    method()


def verdict(tested: Faithfulness) -> None:
    numbers = (
        f"The hottest places matter {tested.effect:.2f} nats more to the word than the coldest do; to count, "
        f"it must be more than {tested.threshold:.2f}."
    )
    if tested.holds:
        st.success(f"**{tested.verdict}** {numbers}", icon=":material/check_circle:")
    else:
        st.warning(f"**{tested.verdict}** {numbers}", icon=":material/help:")


def curves(tested: Faithfulness) -> None:
    """The word's log-probability as ever more of the photo is hidden or shown."""
    st.line_chart(
        {
            "Share of the photo, %": 100 * tested.shares,
            "Hottest places hidden": tested.deletion,
            "Hottest places shown": tested.insertion,
            "Hidden at random": tested.random.mean(0),
        },
        x="Share of the photo, %",
        y_label="Log-probability",
        color=["#635bff", "#d97706", "#8a90a0"],
        height=280,
    )


def every_word(view: View) -> None:
    key = f"all words of {view.photo.key} {view.caption.text}"
    if st.button("Test every word", key="test all", help="Takes a few seconds."):
        st.session_state[key] = True
    if not st.session_state.get(key):
        return
    caption = view.caption
    found = work.faithfulness(
        view.photo, view.asked.settings.model, caption, tuple(range(len(caption.words)))
    )
    st.caption(f"The heatmap holds for {sum(word.holds for word in found)} of {len(found)} words.")
    st.dataframe(
        {
            "Word": [word.word for word in found],
            "Rests on its heatmap": [word.holds for word in found],
            "Effect, nats": [word.effect for word in found],
            "Must be above": [word.threshold for word in found],
        },
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.2f") for name in ("Effect, nats", "Must be above")
        },
        alt="For every word whether it rests on what its heatmap shows.",
    )


def method() -> None:
    with st.expander("How this is tested", icon=":material/school:"):
        st.markdown(
            "The photo is cut into 8 x 8 pieces. They are hidden under the photo's mean colour, the hottest "
            "of the heatmap first, and the model reads its own sentence again. If the word rests on them, "
            "its log-probability falls early (*deletion*), and showing only the hottest brings it back early "
            "(*insertion*). The effect is half the area between the two curves. It is measured for random "
            "orders of patches too, and the heatmap counts as true where its effect is beyond nine in ten of "
            "theirs, and not tiny."
        )
        st.caption(
            "Petsiuk et al., RISE, arXiv 1806.07421, section 4.3; Zeiler and Fergus, arXiv 1311.2901, "
            "section 4.1. A photo with hidden pieces is like none that the model learnt from, so a verdict "
            "is evidence, not proof."
        )
