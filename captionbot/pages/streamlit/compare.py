"""Captioners side by side: what they say, how long they take, where they look for the same word."""

from __future__ import annotations

import streamlit as st

from captionbot.pages.presenters import compare as says
from captionbot.pages.presenters.compare import Answer
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.streamlit.view import show as picture
from captionbot.text.display import plain


def show(seen: Seen) -> None:
    titles = seen.work.captioners()
    if len(titles) < says.LEAST:
        st.info(says.ALONE)
        return
    chosen = st.multiselect(
        says.CAPTIONERS,
        list(titles),
        default=[seen.model, *(name for name in titles if name != seen.model)][: says.MOST],
        max_selections=says.MOST,
        format_func=titles.__getitem__,
        key="compared",
        help=says.CAPTIONERS_HELP,
    )
    if st.button(says.BUTTON, type="primary", disabled=len(chosen) < says.LEAST, key="compare"):
        st.session_state["answers"] = seen.photo.key, ask_all(seen, chosen)
    photo, answers = st.session_state.get("answers", ("", []))
    if photo != seen.photo.key:
        return
    words = says.shared_words([answer.words for answer in answers])
    word = st.selectbox(says.WORD, words, format_func=plain, key="compared word")
    for column, answer in zip(st.columns(len(answers)), answers, strict=True):
        with column, st.container(border=True):
            st.markdown(f"**{plain(answer.title)}**")
            drawn = answer.picture(seen.shown, word, seen.look)
            picture(drawn.image, drawn.text, "stretch")
            st.markdown(f"##### {plain(answer.headline)}")
            if not answer.attends:
                st.caption(says.WHOLE)
            st.caption(answer.measures)


def ask_all(seen: Seen, models: list[str]) -> list[Answer]:
    answers: list[Answer] = []
    bar = st.progress(0.0)
    coming = says.present(seen, models)
    for done, model in enumerate(models):
        bar.progress(done / len(models), plain(says.asking(seen.work.title(model))))
        answers.append(next(coming))
    bar.empty()
    return answers
