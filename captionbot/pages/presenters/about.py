"""The page itself: what it is for, where photos come from, what is done with them."""

from __future__ import annotations

TITLE = "CaptionBot"
EXPLORE = "Explore"
INTRODUCTION = "Drop in a photo. CaptionBot says what it sees, and shows where it looked for every word."
SOURCES = ("Upload", "Camera", "Link", "Samples")
PHOTO = "Photo"
ADDRESS, FETCH = "Address of a photo", "Fetch"
NO_PHOTO = "There is no photo yet: upload one, take one, paste one, or click a sample."
MISTAKES = (
    "Captions can be wrong. Where a captioner can judge itself, a band says how far to trust it; a "
    "likelihood is only how sure it is of its wording, not the chance that it is right."
)

NOT_STORED = "Your photos are not stored."


def kept(minutes: int) -> str:
    """What a page says that needs files for a while."""
    return (
        "Photos are used for nothing but your caption: they and the pictures drawn from them are kept in a "
        f"temporary folder of the server, which is emptied of everything older than {minutes} minutes."
    )
