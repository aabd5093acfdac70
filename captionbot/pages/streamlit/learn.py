"""The explanations of `captionbot.pages.lessons` beside the views."""

from __future__ import annotations

import streamlit as st

from captionbot.pages import lessons as learn
from captionbot.pages.lessons import Lesson
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.view import View


def attention(view: View) -> None:
    kind = work.load_card(view.asked.settings.model).decoder["kind"]
    show(learn.attention(view.caption, kind, work.gates(view.asked, view.caption.token_ids)))


def beam(view: View) -> None:
    show(learn.beam(view.captioned.search, view.asked.settings.options))


def show(lesson: Lesson) -> None:
    with st.expander(lesson.title, icon=":material/school:"):
        st.markdown(lesson.text)
        st.latex(lesson.maths)
        if lesson.source:
            st.caption(lesson.source)
