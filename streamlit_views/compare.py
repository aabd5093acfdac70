"""Captioners side by side: what they say, how long they take, where they look for the same word."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from captionbot import render
from captionbot.render import plain
from captionbot.search_options import SearchOptions
from captionbot.types import Captioned
from captionbot.weights import list_cards
from streamlit_views import work
from streamlit_views.view import View
from streamlit_views.view import show as picture

MOST = 4


def show(view: View) -> None:
    names = [path.stem for path in list_cards()]
    if len(names) < 2:
        st.info("Only one captioner is here. Put another one's card and weights into the folder of weights.")
        return
    own = view.asked.settings.model
    chosen = st.multiselect(
        "Captioners",
        names,
        default=[own, *(name for name in names if name != own)][:MOST],
        max_selections=MOST,
        key="compared",
        help="Each searches as its own card says. They are loaded one after the other, so that they need "
        "the memory of one.",
    )
    key = f"compared {view.photo.key}"
    if st.button("Compare", type="primary", disabled=len(chosen) < 2, key="compare"):
        st.session_state[key] = {name: _ask(view, name) for name in chosen}
    results: dict[str, tuple[Captioned, float]] = st.session_state.get(key, {})
    if not results:
        return
    said = {
        name: [word.text for word in captioned.captions[0].words] for name, (captioned, _) in results.items()
    }
    words = sorted(
        set.union(*map(set, said.values())), key=lambda word: -sum(word in own for own in said.values())
    )
    word = st.selectbox("Where they looked for", words, format_func=plain, key="compared word")
    for column, (name, (captioned, seconds)) in zip(st.columns(len(results)), results.items(), strict=True):
        caption = captioned.captions[0]
        with column, st.container(border=True):
            st.markdown(f"**{plain(name)}**")
            if word in said[name]:
                drawn = render.word_overlay(view.shown, caption, said[name].index(word), view.look)
                picture(drawn, f"Where {name} looked for “{word}”.", "stretch")
            else:
                picture(view.shown, f"{name} does not say “{word}”.", "stretch")
            st.markdown(f"##### {plain(render.sentence(caption.text))}")
            st.caption(f"{seconds:.2f} s · confidence {render.percent(caption.confidence)}")


def _ask(view: View, name: str) -> tuple[Captioned, float]:
    options = SearchOptions(**work.load_card(name).search)
    return work.timed_caption(replace(view.asked, settings=work.Settings(name, options)))
