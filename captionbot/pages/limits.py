"""What a visitor may ask of a page: the limits of both pages. docs/security.md has them in one table."""

from __future__ import annotations

from captionbot.search.options import MAX_TEXT, checked_text

__all__ = ["MAX_TEXT", "checked_text"]

MAX_PHOTO_MEGABYTES = 20  # of a photo's file
MAX_SESSION_MEGABYTES = 250  # of uploads that one visit to the Streamlit page keeps in memory
MAX_KEPT_MEGABYTES = 500  # of uploads that the Streamlit page keeps in memory, of all visits
MAX_SIDE = 4_096  # pixels: larger photos are worked on at this size, or one could fill the memory
MAX_BATCH_PHOTOS = 1_000  # of one batch
MAX_BATCH_MEGABYTES = 200  # of an archive of photos
MAX_EMBED_MEGABYTES = 100  # of photos that are handed out with descriptions in them
MAX_REVIEW_MEGABYTES = 20  # of an earlier review of alt texts
PHOTOS_AT_ONCE = 8  # of a batch: enough for one batched search, few enough that others get their turn
PHOTOS_AHEAD = 2  # of a batch, that are read while others are captioned
MAX_FETCHES = 8  # photos that are being fetched from addresses at one time
MAX_FETCH_WAIT = 5.0  # seconds that one more waits for its turn
