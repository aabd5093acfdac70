"""Hide a part of the photo and caption it again: what changes rested on what is gone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from captionbot.draw import render
from captionbot.draw.render import plain, sentence
from captionbot.errors import CaptionBotError
from captionbot.explain import counterfactuals as explore
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.view import View, choose_one_word, side_by_side, within
from captionbot.pages.streamlit.view import show as picture
from captionbot.pages.streamlit.work import Box

RECTANGLE, LOOKED = "A rectangle", "What a word looked at"
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


def show(view: View) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        way = st.segmented_control(
            "What", [RECTANGLE, LOOKED], default=RECTANGLE, required=True, key="ask way"
        )
        mode = st.segmented_control(
            "Do what with it", ["Hide it", "Show only it"], default="Hide it", required=True, key="ask mode"
        )
        others = mode == "Show only it"
    left, right = st.columns(2, gap="medium")
    with left:
        boxes = (rectangle(view),) if way == RECTANGLE else word_boxes(view)
    asked = replace(view.asked, boxes=boxes, others=others)
    try:
        after = work.caption(asked).captions[0]
    except CaptionBotError as error:
        st.warning(plain(str(error)))
        return
    with right:
        mask = work.cover(view.shown.size, boxes, others)
        hidden = explore.hide(view.shown, mask)
        picture(hidden, f"What the model was shown: {sentence(after.text)}", within(hidden))
        st.caption(f"{render.percent(float(np.asarray(mask).mean()) / 255)} of the photo is hidden.")
    before = work.caption(view.asked).captions[0]
    side_by_side(before, after, ("The whole photo", "With that hidden" if not others else "Only that"))


def rectangle(view: View) -> Box:
    """Fractions of the photo, dragged or set by two sliders that the keyboard reaches."""

    def adopt() -> None:
        left, top, right, bottom = st.session_state["drag"]["box"]
        st.session_state["across"], st.session_state["down"] = (left, right), (top, bottom)

    frame = st.container()
    across = st.slider("From left to right, %", 0, 100, (30, 70), key="across")
    down = st.slider("From top to bottom, %", 0, 100, (30, 70), key="down")
    box = across[0], down[0], across[1], down[1]
    with frame:
        DRAG(
            key="drag",
            data={
                "photo": render.data_url(render.fit(view.shown, 720)),
                "box": box,
                "width": within(view.shown),
                "alt": f"{sentence(view.caption.text)} Drag a rectangle over it, or use the sliders below.",
            },
            on_box_change=adopt,
        )
    return box[0] / 100, box[1] / 100, box[2] / 100, box[3] / 100


def word_boxes(view: View) -> tuple[Box, ...]:
    """The places that together hold half of a word's attention."""
    caption = view.looked
    t = choose_one_word(view, "Word", "asked word")
    places = explore.looked_at(caption, t)
    picture(
        render.word_overlay(view.shown, caption, t, view.look),
        view.where(t),
        within(view.shown),
    )
    st.caption(
        f"{len(places)} of {len(caption.boxes)} places hold half of what “{plain(caption.words[t].text)}” "
        "rests on, by this heatmap."
    )
    scale = np.array([*caption.image_size] * 2)
    return tuple(tuple(box) for box in (caption.boxes[places] / scale).tolist())
