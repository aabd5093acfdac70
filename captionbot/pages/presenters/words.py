"""The photo, its caption as chips, where the model looked for each word, and what it nearly said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from captionbot.draw.boxes import box_name
from captionbot.draw.overlays import Look, fit, word_overlay
from captionbot.explain.attention_maps import attention_map
from captionbot.pages.presenters.judgement import cells, columns
from captionbot.pages.presenters.seen import Column, Picture, Seen, Table, probability
from captionbot.text.display import percent, sentence
from captionbot.types import Caption, Captioned

TITLE = "Words"
CHIPS = "Click a word to see what it rests on"
CHIPS_HELP = (
    "The fuller a word's colour, the surer the model was of it. The arrow keys ← and → step through the "
    "words."
)
CAPTIONS = "Captions, best first: click one"
LOG_PROB_HELP = (
    "The natural logarithm of the probability of the whole sentence: closer to 0 is likelier. The best "
    "caption need not be the likeliest: what the photo says for its words counts too (see Beam)."
)
COLUMNS = (Column("Caption"), Column("Likelihood", share=True), Column("Log-probability", 2))
CHOSEN = "The chosen word"
ALTERNATIVES = "Alternatives: click to try one"
EVERY = "Every word and its probability."
BACK, NEXT = "Back", "Next"
PLAY, PLAY_HELP = "Play", "The words one after the other, as an animation."
HEATMAP, PLACES = "Heatmap", "Places"
SHAPE, SHAPES = "Shape", ("Smooth", "Cells", "Contour")
STRENGTH, COLOURS = "Strength", "Colours"
COLOURS_OF = {
    "inferno": "Fire",
    "viridis": "Green to yellow",
    "cividis": "Blue to yellow",
    "spotlight": "Spotlight",
}
BOXES, BOXES_HELP = "Boxes", "Draw the regions that the word looked at most."
SURENESS = (  # name, least probability of a word, colour
    ("sure, 60% or more", 0.6, "#16a34a"),
    ("likely, 20% or more", 0.2, "#eab308"),
    ("a guess, below 20%", 0.0, "#f87171"),
)
TILE = 360  # pixels
MOST_PLACES = 3  # boxes drawn for a word


def sureness(probability: float) -> str:
    return next(name for name, least, _ in SURENESS if probability >= least)


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


def hero(seen: Seen) -> Picture:
    """The photo, with the heatmap of the word that is chosen, if one is."""
    said = sentence(seen.caption.text)
    if seen.t is None:
        return Picture(seen.shown, said)
    return Picture(heatmap(seen, seen.t).image, f"{said} {seen.where(seen.t)}")


def alternatives(seen: Seen) -> tuple[str, list[tuple[str, float]], str]:
    """How likely the chosen word was, in a sentence; the words that nearly came and their probabilities; and
    what their list is called."""
    t = seen.word
    word = seen.caption.words[t]
    said = f"“{word.text}” had a probability of {percent(probability(word))} here. Alternatives:"
    words = [(rival.text, probability(rival)) for rival in seen.rivals[t]]
    return said, words, f"Alternatives to {word.text}"


def playing(seen: Seen) -> str:
    return f"{sentence(seen.caption.text)} Word by word, where the model looked."


def places(seen: Seen) -> tuple[Image.Image, list[tuple[Any, str]]]:
    """The photo; on it the heatmap (H, W) of the chosen word, and xyxy boxes that it rests on most, named."""
    caption, photo, t = seen.looked, seen.shown, seen.word
    scale = np.array([photo.width, photo.height] * 2) / np.array([*caption.image_size] * 2)
    boxes = (caption.boxes * scale).round().astype(int)
    most = np.argsort(-caption.alphas[t])[:MOST_PLACES]
    total = max(float(caption.alphas[t].sum()), 1e-9)
    boxed = [
        (tuple(boxes[p]), f"{box_name(caption, int(p))} · {percent(caption.alphas[t, p] / total)}")
        for p in most
    ]
    return photo, [(attention_map(caption, t, photo.size), caption.words[t].text), *boxed]


def tiles(shown: Image.Image, looked: Caption, look: Look) -> list[Image.Image]:
    """A small heatmap for every word."""
    small = fit(shown, TILE)
    return [word_overlay(small, looked, t, look) for t in range(len(looked.words))]


def tile_texts(caption: Caption) -> Sequence[str]:
    return [f"{word.text} · {percent(probability(word))}" for word in caption.words]
