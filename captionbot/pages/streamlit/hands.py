"""What a visitor did to the photo and the sentence: kept for the visit, until there is another photo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from captionbot.errors import CaptionBotError
from captionbot.pages.presenters import canvas as says
from captionbot.pages.presenters.canvas import Touched
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.work import Asked


def of(asked: Asked) -> Touched:
    """What was done to this photo with these settings."""
    whose, touched = st.session_state.get("touched", (None, Touched()))
    return touched if whose == _whose(asked) else Touched()


def keep(asked: Asked, touched: Touched) -> None:
    st.session_state["touched"] = _whose(asked), touched


def teller(asked: Asked, seen: Seen) -> Callable[[Any], None]:
    """Is told what the visitor does to a sentence or its photo."""
    st.session_state["seen"] = asked, seen

    def tell(given: Any) -> None:
        try:
            did(*says.event(given))
        except CaptionBotError as error:
            st.session_state["photo problem"] = str(error)

    return tell


def did(event: str, value: Any) -> None:
    asked, seen = st.session_state["seen"]
    st.session_state["before"] = of(asked)  # to go back to, where that cannot be said
    keep(asked, of(asked).after(event, value, seen))


def _whose(asked: Asked) -> tuple[str, Any]:
    return asked.photo.key, asked.settings
