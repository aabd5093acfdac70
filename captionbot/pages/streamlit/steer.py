"""Change a word, and the model finishes the sentence again from there."""

from __future__ import annotations

import math
from dataclasses import replace

import streamlit as st

from captionbot.draw.render import percent, plain
from captionbot.errors import CaptionBotError
from captionbot.explain.counterfactuals import END, LENGTHS, of_length
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.view import View, choose_one_word, side_by_side
from captionbot.text.tokenizer import tokenize
from captionbot.types import Word

USUAL = LENGTHS[1]


def show(view: View) -> None:
    caption = view.caption
    left, right = st.columns([1, 2], gap="medium", vertical_alignment="bottom")
    with left:
        t = choose_one_word(view, "Change from this word on", "steered word")
    key = f"{caption.text} {t}"
    with right:
        rivals = [word for word in work.rivals(view.asked, caption.token_ids)[t] if t or word.text != END]
        rival = st.pills(
            f"Instead of “{plain(view.words[t])}” say",
            range(len(rivals)),
            format_func=[_choice(word) for word in rivals].__getitem__,
            wrap=True,
            key=f"rival {key}",
        )
    typed = st.text_input(
        "Or type words of your own", key=f"typed {key}", placeholder="running through the snow"
    ).strip()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        banned = st.toggle(f"Never say “{plain(view.words[t])}”", key=f"ban {key}")
        length = st.segmented_control(
            "Length",
            LENGTHS,
            default=USUAL,
            required=True,
            format_func=str.capitalize,
            label_visibility="collapsed",
            key=f"length {key}",
        )
    instead = tokenize(typed) if typed else [] if rival is None else [rivals[rival].text]
    if not (instead or banned or length != USUAL):
        st.caption(
            "Choose a word, ban one, or ask for another length: the sentence is finished again from there."
        )
        return
    words = (*view.words[:t], *instead) if instead else ()
    options = of_length(view.asked.settings.options, length, len(view.words), len(words))
    asked = replace(view.asked, settings=replace(view.asked.settings, options=options))
    bans = (*view.asked.settings.banned_words, *([view.words[t]] if banned else []))
    try:
        steered = work.steer(asked, words, bans)
    except CaptionBotError as error:
        st.warning(plain(str(error)), icon=":material/spellcheck:")
        return
    side_by_side(caption, steered.captions[0], ("The model's own", "Steered"))


def _choice(rival: Word) -> str:
    return f"{'stop here' if rival.text == END else plain(rival.text)} · {percent(math.exp(rival.log_prob))}"
