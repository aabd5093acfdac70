"""Does a word rest on what its heatmap shows? The photo is hidden and shown piece by piece to find out."""

from __future__ import annotations

import streamlit as st

from captionbot.draw import render
from captionbot.draw.render import plain
from captionbot.errors import CaptionBotError
from captionbot.explain.maps import Faithfulness
from captionbot.pages import resident as pages
from captionbot.pages.lessons import HEATMAP_TEST
from captionbot.pages.results import heatmaps_true
from captionbot.pages.streamlit import learn, work
from captionbot.pages.streamlit.view import View, choose_one_word, within
from captionbot.pages.streamlit.view import show as picture


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
            picture(drawn, view.where(t), within(drawn))
        else:
            st.caption("This captioner sees the photo as a whole.")
    with right:
        st.markdown("##### What it misses when hidden")
        drawn = render.word_overlay(view.shown, occlusion, t, view.look)
        picture(drawn, f"Where hiding a piece makes “{word}” less likely.", within(drawn))
    st.markdown(f"##### How likely “{plain(word)}” stays")
    curves(tested)
    every_word(view)
    many_photos(view)
    learn.show(HEATMAP_TEST)


def verdict(tested: Faithfulness) -> None:
    if tested.holds:
        st.success(f"**{tested.verdict}** {tested.reason}", icon=":material/check_circle:")
    else:
        st.warning(f"**{tested.verdict}** {tested.reason}", icon=":material/help:")


def curves(tested: Faithfulness) -> None:
    """The word's log-probability as ever more of the photo is hidden or shown."""
    lines = [
        {"share": 100 * float(share), "log-probability": float(value), "what": name}
        for name, (shares, values) in tested.curves.items()
        for share, value in zip(shares, values, strict=True)
    ]
    colours = pages.colours(tested.curves)
    st.html(f"<small>{pages.legend(colours)}</small>")
    st.vega_lite_chart(
        {
            "data": {"values": lines},
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {"field": "share", "type": "quantitative", "title": "Share of the photo, %"},
                "y": {"field": "log-probability", "type": "quantitative", "title": "Log-probability"},
                "color": {
                    "field": "what",
                    "type": "nominal",
                    "scale": {"domain": list(colours), "range": list(colours.values())},
                    "legend": None,
                },
            },
        },
        height=300,
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
            "Lost, nats": [word.effect for word in found],
            "Must be above": [word.threshold for word in found],
        },
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.2f") for name in ("Lost, nats", "Must be above")
        },
        alt="For every word whether it rests on what its heatmap shows.",
    )


def many_photos(view: View) -> None:
    """What `training.evaluation.faithfulness` found, where it was run."""
    found = heatmaps_true(view.asked.settings.model)
    if found is None:
        return
    photos, shares = found
    with st.expander(f"Over {photos} photos, by part of speech", icon=":material/photo_library:"):
        st.dataframe(
            {
                "Part of speech": [share.part for share in shares],
                "Words": [share.words for share in shares],
                "Heatmap true": [100 * share.share for share in shares],
                "95 % interval": ["{:.0%} to {:.0%}".format(*share.interval) for share in shares],
            },
            hide_index=True,
            column_config={
                "Heatmap true": st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100)
            },
            alt="For which share of words the heatmap is true, by part of speech.",
        )
        st.caption("Chance alone gets 5 %. Parts of speech are told apart by lists and rules.")
