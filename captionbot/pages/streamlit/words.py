"""The photo, its caption as chips, and where the model looked for each word."""

from __future__ import annotations

import math
from html import escape

import streamlit as st
from PIL import Image

from captionbot.draw import render
from captionbot.draw.render import Look, plain
from captionbot.pages.streamlit import learn, work
from captionbot.pages.streamlit.view import CONFIDENCE_HELP, View, labels, show
from captionbot.pages.streamlit.work import Asked
from captionbot.types import Caption, Captioned

COLOURS = {
    "inferno": "Fire",
    "viridis": "Green to yellow",
    "cividis": "Blue to yellow",
    "spotlight": "Spotlight",
}
HERO_HEIGHT = 540  # pixels: photo, caption and words fit on a laptop's screen together
LOG_PROB_HELP = (
    "The natural logarithm of the probability of the whole sentence: closer to 0 is likelier. The best "
    "caption need not be the likeliest: what the photo says for its words counts too (see Beam)."
)


def heroes(asked: Asked, shown: Image.Image, captioned: Captioned) -> View:
    """The photo on the left; on the right its captions, and the words of the one that is chosen."""
    share = min(max(0.62 * shown.width / shown.height, 0.4), 0.58)  # of the page's width
    left, right = st.columns([share, 1 - share], gap="medium")
    with right:
        above = st.container()
        rank = choose_caption(captioned)
        caption = captioned.captions[rank]
        with above:
            st.header(plain(render.sentence(caption.text)), anchor=False)
            st.caption(f"Confidence {render.percent(caption.confidence)}", help=CONFIDENCE_HELP)
            t = choose_word(caption)
            with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                step_buttons(caption, t)
                look = choose_look(caption)
            view = View(asked, shown, captioned, rank, t, look)
            if t is not None:
                nearest(view, t)
    with left, st.container(key="hero"):
        hero(view)
    return view


def choose_caption(captioned: Captioned) -> int:
    captions = captioned.captions
    if len(captions) == 1:
        return 0
    return st.radio(
        "Captions, best first",
        range(len(captions)),
        format_func=labels([render.sentence(caption.text) for caption in captions]).__getitem__,
        captions=[
            f"Confidence {render.percent(caption.confidence)} · log-probability {caption.log_prob:.1f}"
            for caption in captions
        ],
        help=LOG_PROB_HELP,
        key=" / ".join(caption.text for caption in captions),
    )


def choose_word(caption: Caption) -> int | None:
    shades = "".join(
        f'.st-key-chips [role="radiogroup"] > *:nth-child({t + 1}) '
        f"{{ --sure: {100 * math.exp(word.log_prob) ** 0.5:.0f}%; }}"
        for t, word in enumerate(caption.words)
    )
    with st.container(key="chips"):
        st.html(f"<style>{shades}</style>")
        return st.pills(
            "Click a word to see where the model looked",
            range(len(caption.words)),
            format_func=labels([word.text for word in caption.words]).__getitem__,
            help="The fuller a word's colour, the surer the model was of it. The arrow keys ← and → step "
            "through the words.",
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
    for label, to, key in (("Back", before, "Left"), ("Next", after, "Right")):
        st.button(label, on_click=step, args=(to,), shortcut=key, key=f"step {key}")
    st.toggle("Play", key="play", help="The words one after the other, as an animation.")


def choose_look(caption: Caption) -> Look:
    with st.popover("Heatmap", icon=":material/tune:"):
        shape = st.segmented_control(
            "Shape",
            ["Smooth", "Cells", "Contour"],
            default="Smooth",
            required=True,
            key="shape",
            bind="query-params",
        )
        strength = st.slider("Strength", 0.1, 1.0, 0.6, key="strength", bind="query-params")
        colormap = st.selectbox(
            "Colours", list(COLOURS), format_func=COLOURS.__getitem__, key="colormap", bind="query-params"
        )
        if caption.grid is None:
            st.toggle(
                "Boxes",
                value=True,
                key="boxes",
                bind="query-params",
                help="Draw the regions that the word looked at most.",
            )
    return Look(shape == "Smooth", strength, colormap, shape == "Contour")


def nearest(view: View, t: int) -> None:
    """The word's own probability, and the words that nearly came instead."""
    word = view.caption.words[t]
    probability = render.percent(math.exp(word.log_prob))
    st.caption(f"“{plain(word.text)}” had a probability of {probability} here. Nearly said instead:")
    rivals = work.rivals(view.asked, view.caption.token_ids)[t]
    bars = "".join(
        f'<div role="listitem"><span>{escape(rival.text)}</span>'
        f'<i><b style="width:{100 * math.exp(rival.log_prob):.1f}%"></b></i>'
        f"<span>{render.percent(math.exp(rival.log_prob))}</span></div>"
        for rival in rivals
    )
    st.html(f'<div class="rivals" role="list" aria-label="Rivals of {escape(word.text)}">{bars}</div>')


def hero(view: View) -> None:
    caption, t, picture = view.caption, view.t, view.shown
    alt = render.sentence(caption.text)
    width = max(1, picture.width * HERO_HEIGHT // picture.height)
    if st.session_state.get("play"):
        show(
            work.gif(view.photo, view.looked, view.look),
            f"{alt} Word by word, where the model looked.",
            width,
        )
        return
    if t is not None:
        alt = f"{alt} {view.where(t)}"
        picture = render.word_overlay(picture, view.looked, t, view.look)
    if caption.grid is None and st.session_state.get("boxes", True):
        picture = render.regions(picture, caption, t)
    show(picture, alt, width)


def every_word(view: View) -> None:
    if not view.attends and view.t is None:
        st.caption(
            "This captioner sees the photo as a whole. Click a word: pieces of the photo are hidden, one "
            "after the other, to find out what it rests on."
        )
        return
    tiles = work.tiles(view.photo, view.looked, view.look)
    with st.container(horizontal=True, gap="small"):
        for t, (word, picture) in enumerate(zip(view.caption.words, tiles, strict=True)):
            with st.container(width=164, gap=None):
                show(picture, view.where(t), 164)
                st.caption(f"**{plain(word.text)}** · {render.percent(math.exp(word.log_prob))}")
    if view.attends:
        learn.attention(view)
