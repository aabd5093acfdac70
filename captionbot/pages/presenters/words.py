"""The captions of the photo, of which one is chosen, and how the captioner decides where to look."""

from __future__ import annotations

from typing import Any

from captionbot.pages.presenters.judgement import cells, columns
from captionbot.pages.presenters.seen import Column, Table
from captionbot.text.display import sentence
from captionbot.types import Caption, Captioned

TITLE = "Captions"
CAPTIONS = "Captions, best first: click one"
LOG_PROB_HELP = (
    "The natural logarithm of the probability of the whole sentence: closer to 0 is likelier. The best "
    "caption need not be the likeliest: what the photo says for its words counts too (see Beam)."
)
COLUMNS = (Column("Caption"), Column("Likelihood", share=True), Column("Log-probability", 2))
CHOSEN = "The chosen word"
ONE = "One caption was asked for: the settings have more."
SHAPE, SHAPES = "Shape", ("Smooth", "Cells", "Contour")
STRENGTH, COLOURS = "Strength", "Colours"
COLOURS_OF = {
    "inferno": "Fire",
    "viridis": "Green to yellow",
    "cividis": "Blue to yellow",
    "spotlight": "Spotlight",
}


def numbered(caption: Caption) -> list[tuple[str, int]]:
    """Words as labels of choices, numbered, since a sentence may well say a word twice."""
    return [(f"{t + 1} {word.text}", t) for t, word in enumerate(caption.words)]


def captions(captioned: Captioned, expert: bool) -> Table:
    """All captions; expert: with what is known of them."""
    if not expert:
        return Table(COLUMNS[:1], [[sentence(c.text)] for c in captioned.captions], CAPTIONS)
    judged = columns(captioned.captions)
    rows: list[list[Any]] = [
        [sentence(c.text), c.confidence, c.log_prob, *cells(c, judged)] for c in captioned.captions
    ]
    return Table((*COLUMNS, *judged), rows, CAPTIONS)
