"""The beam search as a tree, and the sentences that it finished."""

from __future__ import annotations

import streamlit as st

from captionbot.pages.presenters import beam as says
from captionbot.pages.presenters import learn
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.streamlit import canvas
from captionbot.pages.streamlit.view import lesson
from captionbot.text.display import plain


def show(seen: Seen) -> None:
    if seen.options.sample:
        st.info(says.SAMPLING)
        return
    st.caption(says.INTRODUCTION)
    cut = st.toggle(says.CUT, key="cut", help=says.CUT_HELP, bind="query-params")
    canvas.part("tree", says.drawn(seen, cut))
    if not st.session_state.get("expert"):
        return
    finished = says.finished(seen)
    columns = zip(*([plain(text) for text in row] for row in finished.written), strict=True)
    st.table(  # which wraps long sentences: their ends are what tells them apart
        dict(zip(finished.titles, map(list, columns), strict=True)),
        border="horizontal",
        hide_index=True,
        alt=finished.text,
    )
    st.caption(says.NOTE)
    lesson(learn.beam(seen))
