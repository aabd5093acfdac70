"""What both pages share; `streamlit` and `gradio` hold widgets alone."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MOVED = {  # names that `captionbot.pages` had in version 0.1, for one release
    "captioners": "resident",
    "resident_upload": "resident",
    "upload_key": "resident",
    "are_nouns": "presenters.seen",
    "sharpest": "presenters.seen",
    "shared_words": "presenters.compare",
}


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        return getattr(import_module(f"{__name__}.{_MOVED[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
