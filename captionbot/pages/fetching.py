"""Photos at addresses that visitors give, fetched beside all other work: slow servers hold up nobody."""

from __future__ import annotations

from threading import BoundedSemaphore

from captionbot.errors import CaptionBotError
from captionbot.images.urls import fetch
from captionbot.pages.limits import MAX_FETCH_WAIT, MAX_FETCHES, checked_text

_fetches = BoundedSemaphore(MAX_FETCHES)


def fetch_photo(url: str) -> bytes:
    """The bytes at an address on the public internet, as of `captionbot.images.urls.fetch`.

    Raises CaptionBotError as it does, and where too many others are being fetched.
    """
    url = checked_text(url.strip(), "The address")
    if not _fetches.acquire(timeout=MAX_FETCH_WAIT):
        raise CaptionBotError(
            f"{MAX_FETCHES} other photos are being fetched just now: try again in half a minute, or download "
            "the image and give the file."
        )
    try:
        return fetch(url)
    finally:
        _fetches.release()
