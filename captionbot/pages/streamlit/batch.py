"""Many photos at once: files or a .zip in, a table and files to take away out. Nothing is stored."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import streamlit as st

from captionbot.bulk.folder import caption_each, load_ahead
from captionbot.draw.files import data_url
from captionbot.draw.overlays import fit
from captionbot.errors import CaptionBotError
from captionbot.images.load import ImageSource, images_in_archive
from captionbot.pages.presenters import batch as says
from captionbot.pages.presenters.batch import Captioned
from captionbot.pages.streamlit.view import downloads, table
from captionbot.pages.streamlit.work import WORK
from captionbot.pages.work import PhotoFile, Settings
from captionbot.text.display import plain

if TYPE_CHECKING:
    from captionbot.bulk.folder import Loaded

MAX_MEGABYTES = 200  # of all files together, as a .zip may have
AT_ONCE = 8  # photos: enough for one batched search, few enough that the bar moves


class Upload(io.BytesIO):
    """An uploaded archive with the name that `images_in_archive` reads its kind from."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(data)
        self.name, self.suffix = name, Path(name).suffix

    def __str__(self) -> str:
        return self.name


def show(settings: Settings) -> None:
    st.title(says.TITLE, anchor=False)
    st.markdown(says.INTRODUCTION)
    files = st.file_uploader(
        says.FILES,
        ["image", ".zip"],
        accept_multiple_files=True,
        max_upload_size=MAX_MEGABYTES,
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
    captioner = WORK.captioner(settings.model)
    thumbnails: list[str] = []

    def seen(images: Iterable[Loaded]) -> Iterator[Loaded]:
        for name, image in images:
            small = None if isinstance(image, CaptionBotError) else fit(image, says.THUMBNAIL)
            thumbnails.append(data_url(small) if small else "")
            yield name, image

    asked = {"options": settings.options, "prefix": settings.prefix, "banned_words": settings.banned_words}
    found = []
    bar = st.progress(0.0, says.READING)
    for result in caption_each(captioner, seen(load_ahead(sources(files), AT_ONCE)), AT_ONCE, asked):
        found.append(result)
        bar.progress(min(0.99, len(found) / max(len(files), len(found) + 1)), says.so_far(len(found)))
    bar.empty()
    return [Captioned(*pair) for pair in zip(found, thumbnails, strict=True)]


def results(model: str, done: list[Captioned]) -> None:
    st.caption(says.note(done))
    for sentence in says.unread(done):
        st.warning(plain(sentence), icon=":material/broken_image:")
    with st.container(horizontal=True):
        downloads(says.files(done, WORK.public(model)))
    table(says.table(done), row_height=72, placeholder="")  # of a bad file
