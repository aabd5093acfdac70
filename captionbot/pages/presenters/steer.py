"""Change a word, and the model finishes the sentence again from there."""

from __future__ import annotations

from dataclasses import replace

from captionbot.explain.counterfactuals import END, of_length
from captionbot.explain.counterfactuals import LENGTHS as LENGTHS
from captionbot.pages.presenters.seen import Seen, Sides, probability, side_by_side
from captionbot.text.display import percent
from captionbot.types import Word

TITLE = "Steer"
FROM = "Change from this word on"
TYPED, TYPED_EXAMPLE = "Or type words of your own", "running through the snow"
LENGTH = "Length"
USUAL = LENGTHS[1]
BUTTON = "Finish the sentence again"
HINT = "Choose a word, ban one, or ask for another length: the sentence is finished again from there."
TITLES = ("Original", "Edited")


def instead_of(word: str) -> str:
    return f"Instead of “{word}” say"


def never(word: str) -> str:
    return f"Never say “{word}”"


def rivals(seen: Seen, t: int) -> list[tuple[str, str]]:
    """What could stand in the place of word t, with labels. No sentence ends before a first word."""
    return [(rival.text, _label(rival)) for rival in seen.rivals[t] if t or rival.text != END]


def _label(rival: Word) -> str:
    return f"{'stop here' if rival.text == END else rival.text} · {percent(probability(rival))}"


def present(
    seen: Seen,
    t: int,
    *,
    typed: str = "",
    rival: str | None = None,
    banned: bool = False,
    length: str = USUAL,
) -> Sides:
    """The sentence finished again from word t.

    typed: words in its place, which go before a rival; banned: whether the word itself is avoided.
    Raises CaptionBotError for words that the captioner does not know.
    """
    vocabulary = seen.work.vocabulary(seen.model)
    instead = vocabulary.split(typed) or ([rival] if rival else [])
    begun = (*seen.words[:t], *instead) if instead else ()
    ids = vocabulary.ids_of(vocabulary.join(word for word in begun if word != END))
    options = of_length(seen.options, length, len(seen.caption.token_ids), len(ids))
    asked = replace(seen.asked, settings=replace(seen.asked.settings, options=options))
    steered = seen.work.steer(asked, begun, (seen.words[t],) if banned else ())
    return side_by_side(TITLES, seen.caption, steered)
