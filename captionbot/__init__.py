"""CaptionBot: captions for photos, and a look inside them.

>>> from captionbot import Captioner, load_image
>>> Captioner.from_pretrained().caption([load_image("photo.jpg")])[0].captions[0].text
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captionbot import _old_names
from captionbot.errors import CaptionBotError

if TYPE_CHECKING:
    from captionbot.captioner import Captioner
    from captionbot.images.load import load_image, load_url
    from captionbot.search.options import SearchOptions
    from captionbot.types import Caption, Captioned

__version__ = "0.2.0"

_old_names.install("captionbot", _old_names.CAPTIONBOT)

__all__ = ["Caption", "CaptionBotError", "Captioned", "Captioner", "SearchOptions", "load_image", "load_url"]

_HOMES = {
    "Caption": "types",
    "Captioned": "types",
    "Captioner": "captioner",
    "SearchOptions": "search.options",
    "load_image": "images.load",
    "load_url": "images.load",
}


def __getattr__(name: str) -> Any:
    """Import at first use: torch alone takes a second, and `--help` needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'captionbot' has no attribute '{name}'")
    return getattr(import_module(f"captionbot.{_HOMES[name]}"), name)
