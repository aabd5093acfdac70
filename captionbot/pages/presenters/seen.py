"""What a visitor looks at, and the records that several views speak in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from captionbot.draw.overlays import LOOK, Look
from captionbot.explain import counterfactuals as explore
from captionbot.explain.needs import Needs
from captionbot.pages.work import Asked, Photo, Work
from captionbot.search.options import SearchOptions
from captionbot.text.display import percent
from captionbot.text.judgement import measure, said
from captionbot.text.parts_of_speech import parts_of_speech
from captionbot.types import Caption, Captioned, Word

WHOLE = (
    "This captioner sees the photo as a whole: pieces of the photo are hidden, one after the other, to find "
    "out what a word needs."
)
SAME = "Nothing changed: the model says the same."


@dataclass(frozen=True)
class Seen:
    """A photo with its captions, and what of them was chosen.

    work: runs the models.
    shown: the photo at display size.
    rank: the place of the chosen caption, 0 the best.
    edited: the caption that the visitor made of it, if any.
    t: the chosen word, None where there is none.
    """

    work: Work
    asked: Asked
    shown: Image.Image
    captioned: Captioned
    rank: int = 0
    t: int | None = None
    look: Look = LOOK
    edited: Caption | None = None

    @property
    def model(self) -> str:
        return self.asked.settings.model

    @property
    def photo(self) -> Photo:
        return self.asked.photo

    @property
    def options(self) -> SearchOptions:
        return self.asked.settings.options

    @property
    def caption(self) -> Caption:
        return self.edited or self.captioned.captions[self.rank]

    @property
    def words(self) -> list[str]:
        return [word.text for word in self.caption.words]

    @cached_property
    def attends(self) -> bool:
        """Whether the captioner tells places of the photo apart by itself."""
        return self.work.attends(self.model, self.caption)

    @property
    def looked(self) -> Caption:
        """The caption whose alphas are drawn: its own, or what words need of one without attention."""
        if self.attends:
            return self.caption
        return self.work.maps(self.model, self.photo, self.caption, "needs").on(self.caption)

    @property
    def rivals(self) -> Sequence[Sequence[Word]]:
        """The likeliest other words in the place of each word, and of the end."""
        return self.work.rivals(self.asked, self.caption.token_ids)

    @property
    def gates(self) -> np.ndarray | None:
        return self.work.gates(self.asked, self.caption.token_ids)

    def needs(self, caption: Caption | None = None) -> Iterator[Needs]:
        """What words need of the photo, coarse to fine; of the chosen caption, or of another sentence."""
        return self.work.needs(self.model, self.photo, caption or self.caption)

    @property
    def word(self) -> int:
        """The chosen word, or the one that views begin with."""
        return sharpest(self.caption) if self.t is None else self.t

    def where(self, t: int) -> str:
        """What the drawing of word t shows."""
        return where(self.words[t], self.attends)


def where(word: str, attends: bool) -> str:
    if attends:
        return f"Where the model looked for “{word}”."
    return f"Where hiding a piece makes “{word}” less likely."


def sharpest(caption: Caption) -> int:
    """The noun that the model looked at most sharply, of a caption without one the word. Views begin with it:
    the first word is mostly an article."""
    sharp = caption.alphas.max(axis=1) / caption.alphas.sum(axis=1).clip(1e-9)
    nouns = [t for t, noun in enumerate(are_nouns([word.text for word in caption.words])) if noun]
    return max(nouns or range(len(sharp)), key=sharp.__getitem__)


def are_nouns(words: Sequence[str]) -> list[bool]:
    return [part == "noun" for part in parts_of_speech(words)]


def measures(caption: Caption) -> str:
    return f"{measure(caption)} · log-probability {caption.log_prob:.1f}"


def probability(word: Word) -> float:
    return math.exp(word.log_prob)


class Picture(NamedTuple):
    """text: what it shows, for a label or a screen reader."""

    image: Image.Image
    text: str


class Column(NamedTuple):
    """A column of a table.

    digits: decimals of its numbers, None of texts and whole numbers.
    share: whether its numbers are parts of 1, which are read in %.
    bar: the number of a full bar, where a page draws bars.
    picture: whether its values are data URLs.
    """

    title: str
    digits: int | None = None
    share: bool = False
    bar: float | None = None
    picture: bool = False

    def written(self, value: Any) -> str:
        """A value as people read it."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if self.share and self.digits is None:
            return percent(value)
        if self.digits is None:
            return str(value)
        return f"{100 * value if self.share else value:.{self.digits}f}"


@dataclass(frozen=True)
class Table:
    """columns, and rows of raw values, None where there is none; text: what it shows."""

    columns: tuple[Column, ...]
    rows: list[list[Any]]
    text: str = ""

    @property
    def titles(self) -> list[str]:
        return [column.title for column in self.columns]

    @property
    def written(self) -> list[list[str]]:
        """The rows as people read them."""
        return [
            [column.written(value) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]


class Side(NamedTuple):
    """A caption beside another. words: each with whether the other lacks it there."""

    title: str
    words: list[tuple[str, bool]]
    measures: str


class Sides(NamedTuple):
    """Two captions; note: how they differ, in a sentence."""

    before: Side
    after: Side
    changed: bool

    @property
    def note(self) -> str:
        return f"{self.before.measures} → {self.after.measures}" if self.changed else SAME


def side_by_side(titles: tuple[str, str], before: Caption, after: Caption) -> Sides:
    words = [[word.text for word in caption.words] for caption in (before, after)]
    change = explore.compare(*words)
    first, second = (
        Side(title, list(zip(said, flags, strict=True)), measures(caption))
        for title, said, flags, caption in zip(
            titles, words, (change.before, change.after), (before, after), strict=True
        )
    )
    return Sides(first, second, bool(change))


def headline(caption: Caption) -> str:
    """The caption as a sentence, worded as sure as it is."""
    return said(caption)
