"""Stronger captioners of the Hugging Face Hub: which to fetch, and how far that is."""

from __future__ import annotations

import streamlit as st

from captionbot.errors import CaptionBotError
from captionbot.pages.offers import DOWNLOADS, offers
from captionbot.pages.presenters import hub as says
from captionbot.pages.presenters.judgement import band
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.streamlit.work import WORK
from captionbot.text.display import plain

_EVERY = 1.0  # seconds between two looks at a download


def choose() -> None:
    """Among the settings: what can be fetched, where the host offers any."""
    listed = offers()
    if not listed:
        return
    with st.expander(says.TITLE):
        st.caption(says.INTRODUCTION)
        labels = says.choices(listed)
        name = st.selectbox(says.CHOOSE, list(labels), format_func=labels.__getitem__, key="to fetch")
        offer = next(offer for offer in listed if offer.name == name)
        st.markdown(says.facts(offer))
        st.button(
            says.FETCH,
            icon=":material/download:",
            key="fetch",
            on_click=fetch,
            args=(offer.name,),
            disabled=bool(offer.lacks) or DOWNLOADS.state.running,
        )
        progress("stop here")  # where it was asked for; below the sentence the settings may cover it


def ask(seen: Seen) -> None:
    """Below the sentence: a button that brings a stronger captioner, where this one is not sure."""
    if band(seen.caption).kind in ("", "sure"):
        return
    if asked := says.ask(WORK.captioners()):
        st.button(
            asked.label,
            icon=":material/psychology:" if asked.here else ":material/download:",
            key="ask a stronger one",
            on_click=choose_captioner if asked.here else fetch,
            args=(asked.model,),
        )


def fetch(name: str) -> None:
    try:
        DOWNLOADS.start(name)
    except CaptionBotError as error:
        st.session_state["photo problem"] = str(error)
    else:
        st.session_state["fetching"] = name


def choose_captioner(name: str) -> None:
    st.session_state["captioner"] = name


def progress(stop: str = "stop") -> None:
    """How far the download is. It is looked at again and again as long as it runs. stop: the button's key."""
    if DOWNLOADS.state.running:
        st.fragment(run_every=_EVERY)(_running)(stop)
    elif DOWNLOADS.state.name and DOWNLOADS.state.name == st.session_state.get("fetching"):
        ended = st.warning if DOWNLOADS.state.problem else st.success
        ended(plain(says.progress(DOWNLOADS.state)))


def _running(stop: str) -> None:
    state = DOWNLOADS.state
    if not state.running:
        st.rerun()  # the page lists the captioner now
    st.progress(says.share(state), plain(says.progress(state)))
    if state.name == st.session_state.get("fetching"):  # others' are theirs
        st.button(says.STOP, icon=":material/close:", key=stop, on_click=DOWNLOADS.stop)
