"""Hide a part of the photo and caption it again: what changes rested on what is gone."""

from __future__ import annotations

import streamlit as st

from captionbot.draw.files import data_url
from captionbot.draw.overlays import fit
from captionbot.errors import CaptionBotError
from captionbot.pages.presenters import ask as says
from captionbot.pages.presenters import words
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.streamlit.view import choose_one_word, side_by_side, within
from captionbot.pages.streamlit.view import show as picture
from captionbot.pages.work import Box
from captionbot.text.display import plain

DRAG = st.components.v2.component(
    "drag_rectangle",
    html='<div class="frame"><img draggable="false"><div class="box"></div></div>',
    css="""
    :host { container-type: inline-size; }
    .frame { position: relative; display: inline-block; max-width: 100%; line-height: 0; cursor: crosshair;
             touch-action: none; user-select: none; }
    img { display: block; border-radius: 0.75rem; }
    .box { position: absolute; border: 2px solid #fff; outline: 2px solid var(--st-primary-color);
           background: color-mix(in srgb, var(--st-primary-color) 28%, transparent); border-radius: 4px;
           pointer-events: none; }
    """,
    js="""
    export default function ({ data, parentElement, setStateValue }) {
        const frame = parentElement.querySelector(".frame"), box = parentElement.querySelector(".box");
        const image = parentElement.querySelector("img");
        if (image.src !== data.photo) image.src = data.photo;
        image.alt = data.alt;
        image.style.width = `min(100cqw, ${data.width}px)`;
        const draw = ([left, top, right, bottom]) => Object.assign(box.style, {
            left: left + "%", top: top + "%", width: right - left + "%", height: bottom - top + "%" });
        draw(data.box);
        let start = null, drawn = null;
        const at = (event) => {
            const edge = image.getBoundingClientRect();
            const percent = (part) => Math.round(100 * Math.min(1, Math.max(0, part)));
            return [percent((event.clientX - edge.left) / edge.width),
                    percent((event.clientY - edge.top) / edge.height)];
        };
        frame.onpointerdown = (event) => {
            start = at(event);
            frame.setPointerCapture(event.pointerId);
        };
        frame.onpointermove = (event) => {
            if (!start) return;
            const [x, y] = at(event);
            drawn = [Math.min(x, start[0]), Math.min(y, start[1]),
                     Math.max(x, start[0]), Math.max(y, start[1])];
            draw(drawn);
        };
        frame.onpointerup = () => {
            if (drawn && drawn[2] > drawn[0] && drawn[3] > drawn[1]) setStateValue("box", drawn);
            start = drawn = null;
        };
    }
    """,
)


def show(seen: Seen) -> None:
    ways, modes = [says.RECTANGLE, says.LOOKED], [says.HIDE, says.ONLY]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        way = st.segmented_control(says.WHAT, ways, default=ways[0], required=True, key="ask way")
        mode = st.segmented_control(says.DO, modes, default=modes[0], required=True, key="ask mode")
    left, right = st.columns(2, gap="medium")
    with left:
        boxes = (rectangle(seen),) if way == says.RECTANGLE else word_boxes(seen)
    try:
        hidden = says.present(seen, boxes, mode == says.ONLY)
    except CaptionBotError as error:
        st.warning(plain(str(error)))
        return
    with right:
        picture(hidden.picture.image, hidden.picture.text, within(hidden.picture.image))
        st.caption(hidden.share)
    side_by_side(hidden.sides)


def rectangle(seen: Seen) -> Box:
    """Fractions of the photo, dragged or set by two sliders that the keyboard reaches."""

    def adopt() -> None:
        left, top, right, bottom = st.session_state["drag"]["box"]
        st.session_state["across"], st.session_state["down"] = (left, right), (top, bottom)

    frame = st.container()
    across, down = (
        st.slider(label, 0, 100, (30, 70), key=key)
        for label, key in zip(says.SPANS, ("across", "down"), strict=True)
    )
    box = across[0], down[0], across[1], down[1]
    with frame:
        DRAG(
            key="drag",
            data={
                "photo": data_url(fit(seen.shown, 720)),
                "box": box,
                "width": within(seen.shown),
                "alt": says.drag(seen),
            },
            on_box_change=adopt,
        )
    return box[0] / 100, box[1] / 100, box[2] / 100, box[3] / 100


def word_boxes(seen: Seen) -> tuple[Box, ...]:
    """The places that together hold half of a word's attention."""
    t = choose_one_word(seen, says.WORD, "asked word")
    boxes, note = says.rests_on(seen, t)
    picture(words.heatmap(seen, t).image, seen.where(t), within(seen.shown))
    st.caption(plain(note))
    return boxes
