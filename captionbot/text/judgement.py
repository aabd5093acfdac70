"""What a captioner thinks of its caption, as people read it."""

from __future__ import annotations

from captionbot.text.display import percent, sentence
from captionbot.types import Caption, Judgement

NAMES = {"sure": "Sure", "unsure": "Unsure", "unknown": "I don't know this kind of photo"}
"""The bands, as they are shown beside a caption."""

_PERHAPS = {"sure": "", "unsure": "Perhaps ", "unknown": "At a guess, "}


def said(caption: Caption) -> str:
    """The caption as a sentence that says how far it is to be trusted: "Perhaps a dog runs."."""
    doubt = _PERHAPS[caption.judgement.band] if caption.judgement else ""
    return sentence(doubt + caption.text.strip())


def measure(caption: Caption) -> str:
    """One number on a caption: how likely it is right, or how likely its words are where no more is known."""
    if caption.judgement is None:
        return f"Likelihood {percent(caption.confidence)}"
    return f"{percent(caption.judgement.probability)} likely to be right"


def why(judgement: Judgement) -> str:
    """The reason as a sentence, "" where there is none."""
    return sentence(judgement.reason) if judgement.reason else ""


def general(judgement: Judgement) -> str:
    """What is known all the same, as a sentence; "" where nothing is."""
    if not judgement.general:
        return ""
    return f"What I can say: {judgement.general} ({percent(judgement.general_probability)})."


def in_brief(judgement: Judgement) -> str:
    """The band and the reason, for a line of text: "unsure: the best sentences disagree"."""
    return f"{judgement.band}: {judgement.reason}" if judgement.reason else judgement.band
