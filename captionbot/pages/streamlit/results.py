"""How good the captioners are: the leaderboard, and their captions of photos that people described."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from PIL import Image

from captionbot.draw import render
from captionbot.draw.render import plain
from captionbot.errors import CaptionBotError
from captionbot.pages.results import HINT, WAYS, Gallery, Shot, gallery_file, leaderboard
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.view import show as picture

METRICS = {"CIDEr": "CIDEr", "BLEU-4": "Bleu_4", "METEOR": "METEOR", "ROUGE-L": "ROUGE_L"}
SHOTS = 6
PHOTO = 480  # pixels


def show() -> None:
    st.title("Results", anchor=False)
    scores()
    file = gallery_file()
    if file is None:
        with st.expander("Show the best and the worst captions here", icon=":material/photo_library:"):
            st.markdown(HINT)
        return
    try:
        photos(load(file, file.stat().st_mtime_ns if file.is_file() else 0))
    except CaptionBotError as error:
        st.warning(plain(str(error)))


def scores() -> None:
    rows = leaderboard()
    if not rows:
        st.info("No captioner that is here has scores on its card.")
        return
    st.markdown(
        "Scores of coco-caption on photos of Flickr8k that no captioner was trained on, higher is better. "
        "CIDEr counts the phrases that a caption shares with what people wrote, rare ones more; BLEU-4 "
        "counts runs of four words."
    )
    st.dataframe(
        {
            "Captioner": [work.title(row["name"]) for row in rows],
            "Search": [_search(row.get("beam_size")) for row in rows],
            **{title: [row.get(name) for row in rows] for title, name in METRICS.items()},
            "Photos": [_measured_on(row) for row in rows],
            "Million parameters": [row["parameters"] / 1e6 for row in rows],
            "Photos a second": [row.get("images_per_second") for row in rows],
        },
        hide_index=True,
        column_config={
            "CIDEr": st.column_config.ProgressColumn(format="%.3f", min_value=0, max_value=1.2),
            "Million parameters": st.column_config.NumberColumn(format="%.1f"),
            "Photos a second": st.column_config.NumberColumn(format="%.1f"),
            **{title: st.column_config.NumberColumn(format="%.3f") for title in METRICS if title != "CIDEr"},
        },
        alt="The captioners with their scores, sizes and speed, best CIDEr first.",
    )
    machines = sorted(
        {f"{row['device'].upper()}, {row['threads']} threads" for row in rows if "device" in row}
    )
    if machines:
        st.caption(f"Speed from a photo's bytes to its caption: {' or '.join(machines)}.")
    for name, title in work.captioners().items():
        with st.expander(plain(title)):
            st.markdown(plain(work.load_card(name).description))
            st.caption(plain(name))


def _search(beam_size: int | None) -> str:
    return "" if beam_size is None else "greedy" if beam_size == 1 else f"beam {beam_size}"


def _measured_on(row: dict[str, object]) -> str:
    return " of ".join(str(row[key]) for key in ("images", "split") if key in row)


def photos(gallery: Gallery) -> None:
    """The best, the worst and the most different captions."""
    st.subheader("Best, worst, most different", anchor=False)
    *_, different = WAYS
    captioner = gallery.captioners[0]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        way = st.segmented_control(
            "Captions",
            gallery.ways,
            default=WAYS[0],
            required=True,
            label_visibility="collapsed",
            key="gallery way",
        )
        if way != different:
            captioner = st.selectbox(
                "Captions of", gallery.captioners, format_func=work.title, key="gallery of"
            )
    shots = gallery.chosen(way, captioner, SHOTS)
    if way == different:
        st.caption("The photos of whose captions the captioners share the fewest words.")
    else:
        st.caption(f"Of {len(gallery.shots)} photos, by the CIDEr of its caption.")
    images = load_photos(gallery, tuple(shots))
    for start in range(0, len(shots), 3):
        for column, shot in zip(st.columns(3), shots[start : start + 3], strict=False):
            with column, st.container(border=True):
                one_photo(shot, images.get(shot.photo))


def one_photo(shot: Shot, image: Image.Image | None) -> None:
    first, *_ = shot.references
    if image is None:
        st.caption(f"{plain(shot.photo)} is not among the photos.")
    else:
        picture(image, f"A person says: {first}", "stretch")
    for name, caption in shot.captions.items():
        st.markdown(f"**{plain(render.sentence(caption))}**")
        st.caption(f"{plain(work.title(name))} · CIDEr {shot.scores[name]:.2f}")
    with st.expander("What people wrote"):
        st.markdown("\n".join(f"- {plain(reference)}" for reference in shot.references))


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
