"""Images from paths, bytes, archives and URLs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captionbot.images.load import ImageSource, Preprocessing, find_images, load_image, load_url

__all__ = ["ImageSource", "Preprocessing", "find_images", "load_image", "load_url"]


def __getattr__(name: str) -> Any:
    """Import at first use: `captionbot.images.archives` alone needs no Pillow."""
    if name not in __all__:
        raise AttributeError(f"module 'captionbot.images' has no attribute '{name}'")
    return getattr(import_module("captionbot.images.load"), name)
