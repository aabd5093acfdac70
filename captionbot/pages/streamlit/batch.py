"""Alt texts of many photos: files or a .zip in, cards to review, files to take away out. Nothing is stored.

A few photos are captioned each time that the script runs, which then asks to be run again: meanwhile cards
can be edited, and a visitor who turns to another page finds the work where it was left.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, cast

import streamlit as st

from captionbot.bulk.folder import caption_each
from captionbot.errors import displayable
from captionbot.images.archives import members
from captionbot.images.load import ImageSource, Preprocessing, count_in_archive, images_in_archive
from captionbot.pages import workbench
from captionbot.pages.limits import MAX_BATCH_MEGABYTES, PHOTOS_AT_ONCE
from captionbot.pages.presenters import batch as says
from captionbot.pages.streamlit.view import downloads
from captionbot.pages.streamlit.work import WORK
from captionbot.pages.turns import turn
from captionbot.pages.work import PhotoFile, Settings
from captionbot.pages.workbench import Bench, Card

GALLERY = st.components.v2.component(
    "captionbot_workbench",
    html='<div class="gallery"></div>',
    css=workbench.style(),
    js=f"""{workbench.script()}
    export default function ({{ data, parentElement, setStateValue, setTriggerValue }}) {{
        const send = (event, value) => (event === "edits" ? setStateValue : setTriggerValue)(event, value);
        Workbench.mount(parentElement.querySelector(".gallery"), data, send);
    }}""",
)
GROWTH = 1.3  # of the cards, before the browser is sent all of them again


class Upload(io.BytesIO):
    """An uploaded archive with the name that `images_in_archive` reads its kind from."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(data)
        self.name: str = name
        self.suffix = Path(name).suffix

    def __str__(self) -> str:
        return self.name


@dataclass
class Job:
    """A visitor's bench, and what of it is still to be done.

    shown: what the browser was sent last, which is not sent again as long as it is the same.
    """

    bench: Bench
    files: Sequence[Any]
    left: Iterator[Card] | None
    shown: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False
    since: float = field(default_factory=time.monotonic)
    before: int = 0
    turn: Lock = field(default_factory=Lock)

    @property
    def running(self) -> bool:
        return self.left is not None and not self.stopped


def show(settings: Settings, turn_to: Callable[[PhotoFile], None]) -> None:
    """turn_to: turns to the explorer with a photo."""
    job: Job | None = st.session_state.get("job")
    if job is not None and (opened := st.session_state.pop("opened", None)) is not None:
        explore(job, opened, turn_to)
    if job is None:
        st.markdown(says.INTRODUCTION)
        resume()
        begin(settings)
        return
    progress(job)
    part(job)
    if job.bench.cards:
        st.subheader(says.EXPORT, anchor=False)
        with st.container(horizontal=True):
            downloads(says.files(job.bench))
            if job.files:
                downloads(says.embedding(job.bench, partial(bytes_of, job.files)))
        st.caption(says.EXPORT_HELP)
    if job.running:
        step(job)


def resume() -> None:
    """Brings back the bench that this tab had before it was reloaded."""
    key = "resumed"

    def asked() -> None:
        if found := workbench.SHELF.get(st.session_state[key].get("resume")):
            st.session_state["job"] = Job(found[0], (), None)

    GALLERY(key=key, on_resume_change=asked)


def begin(settings: Settings) -> None:
    files = st.file_uploader(
        says.FILES,
        ["image", ".zip", *workbench.REVIEWS],
        accept_multiple_files=True,
        max_upload_size=MAX_BATCH_MEGABYTES,
        label_visibility="collapsed",
        key="many",
    )
    style = st.segmented_control(
        says.STYLE,
        list(says.STYLES),
        format_func=says.STYLES.__getitem__,
        default="plain",
        required=True,
        help=says.STYLE_HELP,
        key="style",
    )
    if not files:
        st.caption(says.NONE)
    elif st.button(says.button(len(files)), type="primary", key="go"):
        st.session_state["job"] = start(files, settings, style)
        st.rerun()


def start(files: Sequence[Any], settings: Settings, style: str) -> Job:
    """Raises CaptionBotError for a review that is none."""
    reviews = [(file.name, file.getvalue()) for file in files if workbench.is_review(file.name)]
    photos = [file for file in files if not workbench.is_review(file.name)]
    model, known = settings.model, workbench.reviewed(reviews)
    wanted = Preprocessing.from_json(WORK.card(model).preprocessing)
    asked = {
        "options": workbench.styled(settings.options, style),
        "prefix": settings.prefix,
        "banned_words": settings.banned_words,
    }

    def caption(some: list[Any]) -> list[Any]:
        with turn():
            return list(caption_each(WORK.captioner(model), some, len(some), asked))

    bench = Bench(WORK.public(model), sum(map(count, photos)))
    workbench.SHELF.keep(bench)
    return Job(bench, photos, workbench.propose(sources(photos), wanted, caption, bench.model, known))


def count(file: Any) -> int:
    if Path(file.name).suffix.lower() != ".zip":
        return 1
    return count_in_archive(cast(Path, Upload(file.name, file.getvalue()))) or 1


def sources(files: Sequence[Any]) -> Iterator[ImageSource]:
    """The images of uploads, in the order given; those of an archive in its place."""
    for file in files:
        if Path(file.name).suffix.lower() == ".zip":
            found = images_in_archive(cast(Path, Upload(file.name, file.getvalue())))
            yield from found
        else:
            photo = PhotoFile(file.name, file.getvalue())
            yield ImageSource(file.name, photo.decode)


def progress(job: Job) -> None:
    """How far it is, and what can be done about that."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if job.running:
            seconds = time.monotonic() - job.since
            st.progress(says.share(job.bench), says.so_far(job.bench, seconds, job.before))
            st.button(says.STOP, on_click=stop, args=(job,), key="stop")
        else:
            st.caption(f"{says.note(job.bench)} {says.rest(job.bench) if not job.files else ''}")
            if job.left is not None:
                st.button(says.GO_ON, type="primary", on_click=go_on, args=(job,), key="go on")
        st.button(says.AGAIN, icon=":material/restart_alt:", on_click=forget, key="again")


def stop(job: Job) -> None:
    job.stopped = True


def go_on(job: Job) -> None:
    job.stopped, job.since, job.before = False, time.monotonic(), len(job.bench.cards)


def forget() -> None:
    workbench.SHELF.drop(st.session_state.pop("job").bench)


def part(job: Job) -> None:
    """The gallery. It keeps what is written in it, so it is sent cards only where there are more of them."""
    key, now = "gallery", len(job.bench.cards)
    sent = len(job.shown.get("cards", ()))
    finished = not job.running and (now != sent or job.shown.get("running"))
    if key not in st.session_state or finished or not sent or now >= GROWTH * sent:
        job.shown = says.gallery(job.bench, job.running)

    def edited() -> None:
        job.bench.edit(st.session_state[key].get("edits"))

    def opened() -> None:
        st.session_state["opened"] = st.session_state[key].get("open")

    GALLERY(key=key, data=job.shown, on_edits_change=edited, on_open_change=opened)


def step(job: Job) -> None:
    """Captions a few photos, and asks for the next few.

    One after the other: what a visitor writes meanwhile starts the script anew before this run has ended.
    """
    with job.turn:
        some = list(islice(job.left or (), PHOTOS_AT_ONCE))
        job.bench.cards += some
        if not some:
            job.left = None
    st.rerun()


def explore(job: Job, place: Any, turn_to: Callable[[PhotoFile], None]) -> None:
    """Turns to the explorer with a photo of the gallery."""
    photo = photo_of(job.files, says.chosen(job.bench, place).image)
    if photo is not None:
        turn_to(photo)
    st.warning(says.GONE)


def bytes_of(files: Sequence[Any], name: str) -> bytes | None:
    photo = photo_of(files, name)
    return photo.data if photo else None


def photo_of(files: Sequence[Any], name: str) -> PhotoFile | None:
    """The photo of a name among uploads, or in an archive of them."""
    for file in files:
        if Path(file.name).suffix.lower() != ".zip":
            if displayable(file.name) == name:
                return PhotoFile(file.name, file.getvalue())
            continue
        for member in members(cast(Path, Upload(file.name, file.getvalue()))):
            if displayable(str(member)) == name:
                return PhotoFile(member.name, member.read())
    return None
