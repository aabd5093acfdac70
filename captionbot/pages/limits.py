"""What a visitor may ask of a page: the limits of both pages. docs/security.md has them in one table."""

from __future__ import annotations

from captionbot.errors import CaptionBotError, shortened

MAX_TEXT = 4_000  # characters of any text: beginnings of captions, words to avoid, addresses, names
MAX_PHOTO_MEGABYTES = 20  # of a photo's file
MAX_SESSION_MEGABYTES = 250  # of uploads that one visit to the Streamlit page keeps in memory
MAX_KEPT_MEGABYTES = 500  # of uploads that the Streamlit page keeps in memory, of all visits
MAX_SIDE = 4_096  # pixels: larger photos are worked on at this size, or one could fill the memory
MAX_BATCH_PHOTOS = 1_000  # of one batch
MAX_BATCH_MEGABYTES = 200  # of an archive of photos
PHOTOS_AT_ONCE = 8  # of a batch: enough for one batched search, few enough that others get their turn
PHOTOS_AHEAD = 2  # of a batch, that are read while others are captioned
MAX_FETCHES = 8  # photos that are being fetched from addresses at one time
MAX_FETCH_WAIT = 5.0  # seconds that one more waits for its turn


def checked_text(text: str, what: str = "A text") -> str:
    """The same text; CaptionBotError where it is too long for any page to read."""
    if len(text) > MAX_TEXT:
        raise CaptionBotError(
            f"{what} has {len(text):,} characters, where {MAX_TEXT:,} are allowed: make it shorter "
            f"(it begins with “{shortened(text[:40])}”)."
        )
    return text
