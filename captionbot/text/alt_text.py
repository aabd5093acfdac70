"""Captions as alt text: one sentence, not too long, without "a picture of" in front."""

from __future__ import annotations

import re
from typing import Any

from captionbot.text.display import sentence
from captionbot.text.parts_of_speech import word_set

LIMIT = 125  # characters, after which some screen readers stop or pause

STYLES: dict[str, dict[str, Any]] = {
    "plain": {},
    # Few beams hold no sentence that ends so soon, only the beginnings of longer ones.
    "short": {"max_length": 7, "min_length": 1, "beam_size": 10, "length_penalty": 0.5},
    "detailed": {"min_length": 12, "max_length": 40, "beam_size": 10, "no_repeat_ngram_size": 3},
}
"""Search options of every preset; a captioner says as much as it has learnt to."""

_KIND = (
    r"(?:picture|photo|photograph|image|snapshot|shot|close[ -]?up(?: (?:picture|photo|view|shot|image))?)"
)
# A screen reader says by itself that it is at an image.
_OPENING = re.compile(
    rf"^(?:(?:this|it|there) is )?(?:an? |the |this )?(?:black[- ]and[- ]white )?{_KIND}"
    r" (?:of|showing|shows|depicts|depicting|features|featuring) (?=\w)"
    rf"|^in (?:this|the) {_KIND},? (?:we (?:can )?see |there (?:is|are) )?(?=\w)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s)")
_CLAUSE_END = re.compile(r"[,;:](?=\s)")
_DANGLING = word_set(  # words that no sentence ends with
    """a an the of in on at to with and or by for from near while who that which is are its his her their
    as into over under behind beside next"""
) | {""}  # the dash that stands alone


def alt_text(caption: str, limit: int = LIMIT) -> str:
    """A caption as alt text of at most `limit` characters.

    >>> alt_text("a picture of a dog that runs through the grass")
    'A dog that runs through the grass.'
    """
    text = " ".join(caption.split())
    while (shorter := _OPENING.sub("", text, count=1)) != text:
        text = shorter
    return sentence(_cut(sentence(text), limit)) if text else ""


def _cut(text: str, limit: int) -> str:
    """The text, or what of it makes sense alone within the limit."""
    if len(text) <= limit:
        return text
    start = text[:limit]
    for end in (_SENTENCE_END, _CLAUSE_END):
        if places := [found.start() for found in end.finditer(start) if found.start() > limit // 3]:
            return start[: places[-1]]
    words = text[: limit - 1].rsplit(" ", 1)[0].split(" ")  # a full stop comes after them
    while len(words) > 1 and words[-1].strip(",;:-").lower() in _DANGLING:
        words.pop()
    return " ".join(words).rstrip(",;:-")
