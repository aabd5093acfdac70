"""What the views say, whichever toolkit shows it: one module a view, without Streamlit and without Gradio.

Both pages have the views that are listed here, in this order. Each is `presenters.NAME`, which says what is
shown, and `streamlit.NAME` and `gradio.NAME`, which hold its widgets. docs/extending.md has the steps to
add one.
"""

from __future__ import annotations

from importlib import import_module

from captionbot.types import Caption

VIEWS = ("words", "beam", "truth", "regions", "compare", "share")
"""Of the photo that is captioned."""
PAGES = ("batch", "results")
"""Apart from it."""


def views_of(caption: Caption) -> list[str]:
    """The views that have something to say of a caption."""
    modules = {name: import_module(f"{__name__}.{name}") for name in VIEWS}
    return [name for name, module in modules.items() if getattr(module, "applies", _always)(caption)]


def _always(caption: Caption) -> bool:
    return True


def title(name: str) -> str:
    """What people are shown for a view's name."""
    return str(import_module(f"{__name__}.{name}").TITLE)
