"""Change a word, and the model finishes the sentence again from there."""

from __future__ import annotations

import math
from dataclasses import replace

import streamlit as st

from captionbot.errors import CaptionBotError
from captionbot.explore import END
from captionbot.render import percent, plain
from captionbot.tokenizer import tokenize
from captionbot.types import Word
from streamlit_views import work
from streamlit_views.view import View, choose_one_word, side_by_side

LENGTHS = ("Shorter", "As it is", "Longer")


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
            default="As it is",
            required=True,
            label_visibility="collapsed",
            key=f"length {key}",
        )
    instead = tokenize(typed) if typed else [] if rival is None else [rivals[rival].text]
    if not (instead or banned or length != "As it is"):
        st.caption(
            "Choose a word, ban one, or ask for another length: the sentence is finished again from there."
        )
        return
    words = (*view.words[:t], *instead) if instead else ()
    options = view.asked.settings.options
    if length == "Shorter":
        longest = max(len(view.words) - 1, len(words), 1)
        options = replace(options, max_length=longest, min_length=min(options.min_length, longest))
    elif length == "Longer":
        shortest = len(view.words) + 1
        options = replace(options, min_length=shortest, max_length=max(options.max_length, shortest + 5))
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
