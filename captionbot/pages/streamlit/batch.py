"""Many photos at once: files or a .zip in, a table and files to take along out. Nothing is stored."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import streamlit as st

from captionbot.bulk.folder import caption_each, load_ahead, zip_of_texts
from captionbot.bulk.records import Result, write_csv, write_jsonl
from captionbot.draw import render
from captionbot.draw.render import plain
from captionbot.errors import CaptionBotError
from captionbot.images.load import ImageSource, images_in_archive
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.work import Photo, Settings

if TYPE_CHECKING:
    from captionbot.bulk.folder import Loaded

MAX_MEGABYTES = 200  # of all files together, as a .zip may have
AT_ONCE = 8  # photos: enough for one batched search, few enough that the bar moves
THUMBNAIL = 120  # pixels


class Upload(io.BytesIO):
    """An uploaded archive with the name that `images_in_archive` reads its kind from."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(data)
        self.name, self.suffix = name, Path(name).suffix

    def __str__(self) -> str:
        return self.name


def show(settings: Settings) -> None:
    st.title("Many photos", anchor=False)
    st.markdown(
        "Drop in photos, or a .zip of them. They are captioned in order; a bad file is named, and the rest "
        "go on."
    )
    files = st.file_uploader(
        "Photos or .zip files",
        ["image", ".zip"],
        accept_multiple_files=True,
        max_upload_size=MAX_MEGABYTES,
        label_visibility="collapsed",
        key="many",
    )
    if not files:
        st.session_state.pop("done", None)
        return
    if st.button(f"Caption {len(files)} file{'s' * (len(files) > 1)}", type="primary", key="go"):
        st.session_state["done"] = (settings.model, run(files, settings))
    if "done" in st.session_state:
        table(*st.session_state["done"])


def sources(files: Sequence[Any]) -> Iterator[ImageSource]:
    """The images of uploads, in the order given; those of an archive in its place."""
    for file in files:
        if Path(file.name).suffix.lower() == ".zip":
            found = images_in_archive(cast(Path, Upload(file.name, file.getvalue())))
            yield from found
        else:
            photo = Photo(file.name, file.getvalue())
            yield ImageSource(file.name, photo.decode)


def run(files: Sequence[Any], settings: Settings) -> list[tuple[Result, str]]:
    """Results in order, each with its thumbnail as a data URL ("" for a bad file)."""
    captioner = work.load_captioner(settings.model)
    thumbnails: list[str] = []

    def seen(images: Iterable[Loaded]) -> Iterator[Loaded]:
        for name, image in images:
            small = None if isinstance(image, CaptionBotError) else render.fit(image, THUMBNAIL)
            thumbnails.append(render.data_url(small) if small else "")
            yield name, image

    asked = {"options": settings.options, "prefix": settings.prefix, "banned_words": settings.banned_words}
    found: list[Result] = []
    bar = st.progress(0.0, "Reading the photos…")
    for result in caption_each(captioner, seen(load_ahead(sources(files), AT_ONCE)), AT_ONCE, asked):
        found.append(result)
        bar.progress(
            min(0.99, len(found) / max(len(files), len(found) + 1)), f"{len(found)} photos captioned"
        )
    bar.empty()
    return list(zip(found, thumbnails, strict=True))


def table(model: str, done: list[tuple[Result, str]]) -> None:
    found = [result for result, _ in done]
    bad = [str(result) for _, result in found if isinstance(result, CaptionBotError)]
    st.caption(f"{len(found) - len(bad)} captioned, {len(bad)} could not be read.")
    for sentence in bad:
        st.warning(plain(sentence), icon=":material/broken_image:")
    with st.container(horizontal=True):
        for label, ending, mime, data in (
            ("CSV", "csv", "text/csv", lambda: _written(write_csv, found, model)),
            ("JSONL", "jsonl", "application/jsonl", lambda: _written(write_jsonl, found, model)),
            ("One .txt a photo", "zip", "application/zip", lambda: zip_of_texts(found)),
        ):
            st.download_button(
                label,
                data,
                f"captions.{ending}",
                mime,
                icon=":material/download:",
                on_click="ignore",
                key=ending,
            )
    st.dataframe(
        {
            "Photo": [thumbnail or None for _, thumbnail in done],
            "Name": [name for name, _ in found],
            "Caption": [
                str(result)
                if isinstance(result, CaptionBotError)
                else render.sentence(result.captions[0].text)
                for _, result in found
            ],
            "Confidence": [
                None if isinstance(result, CaptionBotError) else 100 * result.captions[0].confidence
                for _, result in found
            ],
        },
        hide_index=True,
        row_height=72,
        placeholder="",  # of a bad file
        column_config={
            "Photo": st.column_config.ImageColumn(width="small"),
            "Caption": st.column_config.TextColumn(width="large"),
            "Confidence": st.column_config.NumberColumn(format="%.0f %%"),
        },
        alt="The photos with their captions, in the order given.",
    )


def _written(write: Any, found: list[Result], model: str) -> str:
    out = io.StringIO()
    write(found, model, out)
    return out.getvalue()
