"""The explanations of `captionbot.pages.lessons`, with the numbers of what a visitor looks at."""

from __future__ import annotations

from captionbot.pages import lessons
from captionbot.pages.lessons import HEATMAP_TEST, Lesson
from captionbot.pages.presenters.seen import Seen

__all__ = ["HEATMAP_TEST", "Lesson", "attention", "beam"]

ATTENTION, BEAM = lessons.ATTENTION, lessons.BEAM


def attention(seen: Seen) -> Lesson | None:
    """How the captioner decided where to look; None where it sees the photo as a whole."""
    if not seen.attends:
        return None
    kind = seen.work.card(seen.model).decoder["kind"]
    return lessons.attention(seen.caption, kind, seen.gates)


def beam(seen: Seen) -> Lesson | None:
    """How the search found the captions; None where they were drawn."""
    return None if seen.options.sample else lessons.beam(seen.captioned.search, seen.options)
