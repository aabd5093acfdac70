"""The photo, its caption as chips, and where the model looked for each word."""

from __future__ import annotations

from html import escape

import streamlit as st
from PIL import Image

from captionbot.draw.boxes import regions
from captionbot.draw.overlays import Look
from captionbot.pages.presenters import learn
from captionbot.pages.presenters import words as says
from captionbot.pages.presenters.judgement import band
from captionbot.pages.presenters.seen import (
    WHOLE,
    Seen,
    measures,
    probability,
)
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.view import labels, lesson
from captionbot.pages.streamlit.view import show as picture
from captionbot.pages.work import Asked
from captionbot.text.display import percent, plain, sentence
from captionbot.types import Caption, Captioned

BOXES = {"sure": st.success, "unsure": st.warning, "unknown": st.error}
HERO_HEIGHT = 540  # pixels: photo, caption and words fit on a laptop's screen together


def heroes(asked: Asked, shown: Image.Image, captioned: Captioned) -> Seen:
    """The photo on the left; on the right its captions, and the words of the one that is chosen."""
    share = min(max(0.62 * shown.width / shown.height, 0.4), 0.58)  # of the page's width
    left, right = st.columns([share, 1 - share], gap="medium")
    with right:
        above = st.container()
        rank = choose_caption(captioned)
        caption = captioned.captions[rank]
        with above:
            judged = band(caption, work.WORK.captioners())
            st.header(plain(judged.sentence), anchor=False)
            st.caption(judged.number, help=judged.help)
            if judged.note:
                BOXES[judged.kind](plain(judged.note))
            t = choose_word(caption)
            with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                step_buttons(caption, t)
                look = choose_look(caption)
            seen = Seen(work.WORK, asked, shown, captioned, rank, t, look)
            if t is not None:
                alternatives(seen)
    with left, st.container(key="hero"):
        hero(seen)
    return seen


def choose_caption(captioned: Captioned) -> int:
    captions = captioned.captions
    if len(captions) == 1:
        return 0
    return st.radio(
        says.CAPTIONS,
        range(len(captions)),
        format_func=labels([sentence(caption.text) for caption in captions]).__getitem__,
        captions=[measures(caption) for caption in captions],
        help=says.LOG_PROB_HELP,
        key=" / ".join(caption.text for caption in captions),
    )


def choose_word(caption: Caption) -> int | None:
    shades = "".join(
        f'.st-key-chips [role="radiogroup"] > *:nth-child({t + 1}) '
        f"{{ --sure: {100 * probability(word) ** 0.5:.0f}%; }}"
        for t, word in enumerate(caption.words)
    )
    with st.container(key="chips"):
        st.html(f"<style>{shades}</style>")
        return st.pills(
            says.CHIPS,
            range(len(caption.words)),
            format_func=labels([word.text for word in caption.words]).__getitem__,
            help=says.CHIPS_HELP,
            wrap=True,
            key=word_key(caption),
        )


def word_key(caption: Caption) -> str:
    return f"word of {caption.text}"


def step_buttons(caption: Caption, t: int | None) -> None:
    last = len(caption.words) - 1

    def step(to: int) -> None:
        st.session_state[word_key(caption)] = to

    before, after = (last, 0) if t is None else ((t - 1) % (last + 1), (t + 1) % (last + 1))
    for label, to, key in ((says.BACK, before, "Left"), (says.NEXT, after, "Right")):
        st.button(label, on_click=step, args=(to,), shortcut=key, key=f"step {key}")
    st.toggle(says.PLAY, key="play", help=says.PLAY_HELP)


def choose_look(caption: Caption) -> Look:
    smooth, _, contour = says.SHAPES
    with st.popover(says.HEATMAP, icon=":material/tune:"):
        shape = st.segmented_control(
            says.SHAPE, says.SHAPES, default=smooth, required=True, key="shape", bind="query-params"
        )
        strength = st.slider(says.STRENGTH, 0.1, 1.0, 0.6, key="strength", bind="query-params")
        colormap = st.selectbox(
            says.COLOURS,
            list(says.COLOURS_OF),
            format_func=says.COLOURS_OF.__getitem__,
            key="colormap",
            bind="query-params",
        )
        if caption.grid is None:
            st.toggle(says.BOXES, value=True, key="boxes", bind="query-params", help=says.BOXES_HELP)
    return Look(shape == smooth, strength, colormap, shape == contour)


def alternatives(seen: Seen) -> None:
    """The chosen word's own probability, and the words that nearly came instead."""
    said, words, name = says.alternatives(seen)
    st.caption(plain(said))
    bars = "".join(
        f'<div role="listitem"><span>{escape(word)}</span>'
        f'<i><b style="width:{100 * sure:.1f}%"></b></i><span>{escape(percent(sure))}</span></div>'
        for word, sure in words
    )
    st.html(f'<div class="rivals" role="list" aria-label="{escape(name)}">{bars}</div>')


def hero(seen: Seen) -> None:
    width = max(1, seen.shown.width * HERO_HEIGHT // seen.shown.height)
    if st.session_state.get("play"):
        picture(work.gif(seen.photo, seen.looked, seen.look), says.playing(seen), width)
        return
    drawn, alt = says.hero(seen)
    if seen.caption.grid is None and st.session_state.get("boxes", True):
        drawn = regions(drawn, seen.caption, seen.t)
    picture(drawn, alt, width)


def show(seen: Seen) -> None:
    """A small heatmap for every word."""
    if not seen.attends and seen.t is None:
        st.caption(WHOLE)
        return
    st.caption(says.EVERY)
    tiles = work.tiles(seen.photo, seen.looked, seen.look)
    with st.container(horizontal=True, gap="small"):
        for t, (word, tile) in enumerate(zip(seen.caption.words, tiles, strict=True)):
            with st.container(width=164, gap=None):
                picture(tile, seen.where(t), 164)
                st.caption(f"**{plain(word.text)}** · {percent(probability(word))}")
    lesson(learn.attention(seen))
