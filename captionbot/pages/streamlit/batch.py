"""Many photos at once: files or a .zip in, a table and files to take away out. Nothing is stored."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import streamlit as st

from captionbot.bulk.folder import caption_each
from captionbot.images.load import ImageSource, Preprocessing, images_in_archive
from captionbot.pages.batches import caption_photos
from captionbot.pages.limits import MAX_BATCH_MEGABYTES
from captionbot.pages.presenters import batch as says
from captionbot.pages.presenters.batch import Captioned
from captionbot.pages.streamlit.view import downloads, table
from captionbot.pages.streamlit.work import WORK
from captionbot.pages.turns import turn
from captionbot.pages.work import PhotoFile, Settings
from captionbot.text.display import plain


class Upload(io.BytesIO):
    """An uploaded archive with the name that `images_in_archive` reads its kind from."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(data)
        self.name: str = name
        self.suffix = Path(name).suffix

    def __str__(self) -> str:
        return self.name


def show(settings: Settings) -> None:
    st.title(says.TITLE, anchor=False)
    st.markdown(says.INTRODUCTION)
    files = st.file_uploader(
        says.FILES,
        ["image", ".zip"],
        accept_multiple_files=True,
        max_upload_size=MAX_BATCH_MEGABYTES,
        label_visibility="collapsed",
        key="many",
    )
    if not files:
        st.session_state.pop("done", None)
        return
    if st.button(says.button(len(files)), type="primary", key="go"):
        st.session_state["done"] = (settings.model, run(files, settings))
    if "done" in st.session_state:
        results(*st.session_state["done"])


def sources(files: Sequence[Any]) -> Iterator[ImageSource]:
    """The images of uploads, in the order given; those of an archive in its place."""
    for file in files:
        if Path(file.name).suffix.lower() == ".zip":
            found = images_in_archive(cast(Path, Upload(file.name, file.getvalue())))
            yield from found
        else:
            photo = PhotoFile(file.name, file.getvalue())
            yield ImageSource(file.name, photo.decode)


def run(files: Sequence[Any], settings: Settings) -> list[Captioned]:
    """The photos in their order."""
    wanted = Preprocessing.from_json(WORK.card(settings.model).preprocessing)
    asked = {"options": settings.options, "prefix": settings.prefix, "banned_words": settings.banned_words}

    def caption(some: list[Any]) -> list[Any]:
        with turn():
            return list(caption_each(WORK.captioner(settings.model), some, len(some), asked))

    done: list[Captioned] = []
    bar = st.progress(0.0, says.READING)
    for pair in caption_photos(sources(files), wanted, caption, says.THUMBNAIL):
        done.append(Captioned(*pair))
        bar.progress(min(0.99, len(done) / max(len(files), len(done) + 1)), says.so_far(len(done)))
    bar.empty()
    return done


def results(model: str, done: list[Captioned]) -> None:
    st.caption(says.note(done))
    for sentence in says.unread(done):
        st.warning(plain(sentence), icon=":material/broken_image:")
    with st.container(horizontal=True):
        downloads(says.files(done, WORK.public(model)))
    table(says.table(done), row_height=72, placeholder="")  # of a bad file
