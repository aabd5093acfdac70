"""What the captioner thinks of its caption: a band beside the sentence, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from captionbot.pages.offers import offered, offers, strongest
from captionbot.pages.presenters.hub import costs, stronger_here
from captionbot.pages.presenters.seen import Column
from captionbot.store.weights import importable
from captionbot.text.judgement import NAMES, general, measure, said, why
from captionbot.types import Caption

LIKELIHOOD_HELP = (
    "How sure the model is of its wording: the geometric mean of the probabilities of the words. "
    "It is not the chance that the caption is true."
)
BAND_HELP = (
    "How often captions like this one turned out right, on photos that people had captioned. It goes by how "
    "sure the search was, whether its best sentences agree, and how like the photo is to those that the "
    "captioner learned from."
)
COLUMNS = (Column("Right", share=True), Column("Band"), Column("Why"))
"""Of tables of captions, where any of them is judged."""
FIRST = "blip-base"
"""A captioner of the Hub to begin with, where a page fetches none."""
NOBODY: Mapping[str, str] = MappingProxyType({})
COLOURS = {"sure": "#16a34a", "unsure": "#d97706", "unknown": "#dc2626"}


class Band(NamedTuple):
    """The captioner's judgement of one caption, as a page shows it.

    kind: "sure", "unsure", "unknown", or "" of a captioner that has none; then only the number is known.
    name: what the band is called; colour: of its ground or its edge.
    sentence: the caption, worded as sure as it is.
    number: how likely it is right, with words; help: what that means.
    reason: why it is not sure, as a sentence, or "".
    general: what is known all the same, as a sentence, or "".
    stronger: who could say more, as a sentence, or "".
    doubtful_word: the place of the word that is likeliest wrong, None without one.
    """

    kind: str
    name: str
    colour: str
    sentence: str
    number: str
    help: str
    reason: str = ""
    general: str = ""
    stronger: str = ""
    doubtful_word: int | None = None

    @property
    def note(self) -> str:
        """All that a page says under the sentence."""
        parts = f"{self.name}." if self.name else "", self.reason, self.general, self.stronger
        return " ".join(part for part in parts if part)


def band(caption: Caption, captioners: Mapping[str, str] = NOBODY) -> Band:
    """captioners: titles of those that can be chosen, by name."""
    judged = caption.judgement
    if judged is None:
        return Band("", "", "", said(caption), measure(caption), LIKELIHOOD_HELP)
    return Band(
        judged.band,
        NAMES[judged.band],
        COLOURS[judged.band],
        said(caption),
        measure(caption),
        BAND_HELP,
        why(judged),
        general(judged),
        "" if judged.band == "sure" else stronger(captioners),
        judged.doubtful_word,
    )


def stronger(captioners: Mapping[str, str]) -> str:
    """Where to find a captioner that knows more kinds of photos; "" where none can be had."""
    if name := stronger_here(captioners):
        return f"A stronger captioner, {captioners[name]}, may know it: choose it as the captioner."
    if offer := strongest(offers()):
        return f"A stronger captioner, {offer.title}, may know it: {costs(offer)}."
    if not offered() and importable(FIRST):
        return f"A stronger captioner, e.g. {FIRST}, may know it: “captionbot download {FIRST}” fetches it."
    return ""


def columns(captions: Sequence[Caption | None]) -> tuple[Column, ...]:
    """`COLUMNS`, or nothing where none of the captions is judged; None: there is no caption."""
    return COLUMNS if any(caption and caption.judgement for caption in captions) else ()


def cells(caption: Caption | None, among: Sequence[Column]) -> list[Any]:
    """The values of a caption for `columns`, which gave `among`."""
    judged = caption.judgement if caption else None
    values = [judged.probability, NAMES[judged.band], judged.reason] if judged else [None, None, None]
    return values[: len(among)]
