"""The photo, its caption as chips, where the model looked for each word, and what it nearly said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from captionbot.draw.overlays import Look, fit, word_overlay
from captionbot.pages.presenters.judgement import cells, columns
from captionbot.pages.presenters.seen import Column, Picture, Seen, Table, probability
from captionbot.text.display import percent, sentence
from captionbot.types import Caption, Captioned

TITLE = "Words"
CAPTIONS = "Captions, best first: click one"
LOG_PROB_HELP = (
    "The natural logarithm of the probability of the whole sentence: closer to 0 is likelier. The best "
    "caption need not be the likeliest: what the photo says for its words counts too (see Beam)."
)
COLUMNS = (Column("Caption"), Column("Likelihood", share=True), Column("Log-probability", 2))
CHOSEN = "The chosen word"
EVERY = "Every word and its probability."
SHAPE, SHAPES = "Shape", ("Smooth", "Cells", "Contour")
STRENGTH, COLOURS = "Strength", "Colours"
COLOURS_OF = {
    "inferno": "Fire",
    "viridis": "Green to yellow",
    "cividis": "Blue to yellow",
    "spotlight": "Spotlight",
}
TILE = 360  # pixels


def numbered(caption: Caption) -> list[tuple[str, int]]:
    """Words as labels of choices, numbered, since a sentence may well say a word twice."""
    return [(f"{t + 1} {word.text}", t) for t, word in enumerate(caption.words)]


def captions(captioned: Captioned) -> Table:
    judged = columns(captioned.captions)
    rows: list[list[Any]] = [
        [sentence(c.text), c.confidence, c.log_prob, *cells(c, judged)] for c in captioned.captions
    ]
    return Table((*COLUMNS, *judged), rows, CAPTIONS)


def heatmap(seen: Seen, t: int) -> Picture:
    """What word t rests on, and how likely it was."""
    sure = percent(probability(seen.caption.words[t]))
    return Picture(word_overlay(seen.shown, seen.looked, t, seen.look), f"{seen.where(t)[:-1]} · {sure}")


def tiles(shown: Image.Image, looked: Caption, look: Look) -> list[Image.Image]:
    """A small heatmap for every word."""
    small = fit(shown, TILE)
    return [word_overlay(small, looked, t, look) for t in range(len(looked.words))]


def tile_texts(caption: Caption) -> Sequence[str]:
    return [f"{word.text} · {percent(probability(word))}" for word in caption.words]
