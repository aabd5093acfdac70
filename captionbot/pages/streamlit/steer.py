"""Change a word, and the model finishes the sentence again from there."""

from __future__ import annotations

import streamlit as st

from captionbot.errors import CaptionBotError
from captionbot.pages.presenters import steer as says
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.streamlit.view import choose_one_word, side_by_side
from captionbot.text.display import plain


def show(seen: Seen) -> None:
    left, right = st.columns([1, 2], gap="medium", vertical_alignment="bottom")
    with left:
        t = choose_one_word(seen, says.FROM, "steered word")
    key, word = f"{seen.caption.text} {t}", plain(seen.words[t])
    with right:
        rivals = says.rivals(seen, t)
        rival = st.pills(
            says.instead_of(word),
            range(len(rivals)),
            format_func=[plain(label) for _, label in rivals].__getitem__,
            wrap=True,
            key=f"rival {key}",
        )
    typed = st.text_input(says.TYPED, key=f"typed {key}", placeholder=says.TYPED_EXAMPLE)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        banned = st.toggle(says.never(word), key=f"ban {key}")
        length = st.segmented_control(
            says.LENGTH,
            says.LENGTHS,
            default=says.USUAL,
            required=True,
            format_func=str.capitalize,
            label_visibility="collapsed",
            key=f"length {key}",
        )
    chosen = None if rival is None else rivals[rival][0]
    if not (typed.strip() or chosen or banned or length != says.USUAL):
        st.caption(says.HINT)
        return
    try:
        sides = says.present(seen, t, typed=typed, rival=chosen, banned=banned, length=length)
    except CaptionBotError as error:
        st.warning(plain(str(error)), icon=":material/spellcheck:")
        return
    side_by_side(sides)
