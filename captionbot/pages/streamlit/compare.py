"""Captioners side by side: what they say, how long they take, where they look for the same word."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from captionbot.draw import render
from captionbot.draw.render import plain
from captionbot.pages.resident import shared_words
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.view import View
from captionbot.pages.streamlit.view import show as picture
from captionbot.search.options import SearchOptions
from captionbot.types import Caption

MOST = 4


@dataclass(frozen=True)
class Answer:
    """What one captioner said.

    drawn: its best caption, with what its heatmaps show as alphas.
    where: what the drawing of each word shows; hidden: whether pieces of the photo were hidden for it.
    seconds: from the photo's bytes to its captions.
    """

    drawn: Caption
    where: list[str]
    hidden: bool
    seconds: float


def show(view: View) -> None:
    titles = work.captioners()
    if len(titles) < 2:
        st.info("Only one captioner is here. Put another one's card and weights into the folder of weights.")
        return
    own = view.asked.settings.model
    chosen = st.multiselect(
        "Captioners",
        list(titles),
        default=[own, *(name for name in titles if name != own)][:MOST],
        max_selections=MOST,
        format_func=titles.__getitem__,
        key="compared",
        help="Each searches as its own card says. They are loaded one after the other, so that they need "
        "the memory of one.",
    )
    if st.button("Compare", type="primary", disabled=len(chosen) < 2, key="compare"):
        st.session_state["answers"] = view.photo.key, _ask_all(view, chosen)
    photo, results = st.session_state.get("answers", ("", {}))
    if photo != view.photo.key:
        return
    said = {name: [word.text for word in answer.drawn.words] for name, answer in results.items()}
    words = shared_words(list(said.values()))
    word = st.selectbox("Where they looked for", words, format_func=plain, key="compared word")
    for column, (name, answer) in zip(st.columns(len(results)), results.items(), strict=True):
        caption = answer.drawn
        with column, st.container(border=True):
            title = work.title(name)
            st.markdown(f"**{plain(title)}**")
            if word in said[name]:
                drawn = render.word_overlay(view.shown, caption, said[name].index(word), view.look)
                picture(drawn, f"{title}: {answer.where[said[name].index(word)]}", "stretch")
            else:
                picture(view.shown, f"{title} does not say “{word}”.", "stretch")
            st.markdown(f"##### {plain(render.sentence(caption.text))}")
            if answer.hidden:
                st.caption("Without attention of its own: where hiding a piece makes the word less likely.")
            st.caption(f"{answer.seconds:.2f} s · confidence {render.percent(caption.confidence)}")


def _ask_all(view: View, names: list[str]) -> dict[str, Answer]:
    answers = {}
    bar = st.progress(0.0)
    for done, name in enumerate(names):
        bar.progress(done / len(names), f"Asking {plain(work.title(name))}…")
        answers[name] = _ask(view, name)
    bar.empty()
    return answers


def _ask(view: View, name: str) -> Answer:
    options = SearchOptions(**work.load_card(name).search)
    asked = replace(view.asked, settings=work.Settings(name, options))
    captioned, seconds = work.timed_caption(asked)
    theirs = replace(view, asked=asked, captioned=captioned, rank=0, t=None)
    where = [theirs.where(t) for t in range(len(theirs.words))]
    return Answer(theirs.looked, where, not theirs.attends, seconds)
