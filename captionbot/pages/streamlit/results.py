"""How good the captioners are: the leaderboard, and their captions of photos that people described."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from PIL import Image

from captionbot.errors import CaptionBotError
from captionbot.pages.presenters import results as says
from captionbot.pages.presenters.charts import html
from captionbot.pages.presenters.measured import picture as drawn
from captionbot.pages.presenters.measured import titles
from captionbot.pages.presenters.results import Described
from captionbot.pages.results import Gallery, Shot, gallery_file
from captionbot.pages.streamlit.view import show as picture
from captionbot.pages.streamlit.view import table
from captionbot.pages.streamlit.work import WORK
from captionbot.text.display import plain

PHOTO = 480  # pixels


def show() -> None:
    st.title(says.TITLE, anchor=False)
    scores()
    file = gallery_file()
    if file is None:
        return
    try:
        photos(load(file, file.stat().st_mtime_ns if file.is_file() else 0))
    except CaptionBotError as error:
        st.warning(plain(str(error)))


def scores() -> None:
    measured = says.leaderboard(WORK)
    if not measured.rows:
        st.info(says.NONE)
        return
    st.markdown(says.INTRODUCTION)
    if pictures := titles(WORK):
        title = st.selectbox(says.PICTURE, pictures, key="measured")
        with st.spinner(says.DRAWING, show_time=False):
            st.html(html(drawn(WORK, title)))
    table(measured)
    st.caption(says.speed())
    st.subheader(says.ABOUT, anchor=False)
    for title, name, description in says.descriptions(WORK):
        with st.expander(plain(title)):
            st.markdown(plain(description))
            st.caption(plain(name))


def photos(gallery: Gallery) -> None:
    """The best, the worst and the most different captions."""
    st.subheader(says.GALLERY, anchor=False)
    best, *_, different = says.WAYS
    captioner = gallery.captioners[0]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        way = st.segmented_control(
            says.WAY,
            gallery.ways,
            default=best,
            required=True,
            label_visibility="collapsed",
            key="gallery way",
        )
        if way != different:
            captioner = st.selectbox(
                says.CAPTIONER, gallery.captioners, format_func=WORK.title, key="gallery of"
            )
    shots = gallery.chosen(way, captioner, says.SHOTS)
    st.caption(says.chosen(way, gallery))
    images = load_photos(gallery, tuple(shots))
    for start in range(0, len(shots), 3):
        for column, shot in zip(st.columns(3), shots[start : start + 3], strict=False):
            with column, st.container(border=True):
                one_photo(says.described(WORK, shot, images.get(shot.photo)))


def one_photo(described: Described) -> None:
    if described.picture is None:
        st.caption(plain(described.missing))
    else:
        picture(*described.picture, "stretch")
    for caption, score in described.captions:
        st.markdown(f"**{plain(caption)}**")
        st.caption(plain(score))
    with st.expander(says.PEOPLE):
        st.markdown("\n".join(f"- {plain(reference)}" for reference in described.references))


@st.cache_data(max_entries=1, show_spinner=False)
def load(file: Path, changed: int) -> Gallery:
    """changed: when the file was, so that a new one is read."""
    return Gallery.load(file)


@st.cache_data(
    max_entries=8,
    show_spinner="Finding the photos…",
    hash_funcs={Gallery: lambda gallery: gallery.images, Shot: lambda shot: shot.photo},
)
def load_photos(gallery: Gallery, shots: tuple[Shot, ...]) -> dict[str, Image.Image]:
    return gallery.photos(shots, PHOTO)
