"""Captioners side by side: what they say, how long they take, where they look for the same word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from captionbot.draw.overlays import LOOK, Look, word_overlay
from captionbot.errors import CaptionBotError
from captionbot.pages.presenters.judgement import cells, columns
from captionbot.pages.presenters.seen import Column, Picture, Seen, Table, are_nouns, where
from captionbot.pages.work import Settings, Work
from captionbot.text.judgement import measure, said
from captionbot.types import Caption

TITLE = "Compare"
LEAST, MOST, FIRST = 2, 4, 3
CAPTIONERS = f"Captioners, {LEAST} to {MOST}"
CAPTIONERS_HELP = (
    "Each searches as its own card says. They are loaded one after the other, so that they need the memory "
    "of one."
)
BUTTON = "Compare"
WORD = "Attention map for"
ALONE = "Only one captioner is here. Put another one's card and weights into the folder of weights."
WHOLE = "Without attention of its own: where hiding a piece makes the word less likely."


@dataclass(frozen=True)
class Answer:
    """What one captioner said.

    best: its best caption; looked: the same, with what its heatmaps show as alphas.
    attends: whether that is its own attention. seconds: from the photo's bytes to its captions.
    """

    title: str
    best: Caption
    looked: Caption
    attends: bool
    seconds: float

    @property
    def words(self) -> list[str]:
        return [word.text for word in self.best.words]

    @property
    def headline(self) -> str:
        return said(self.best)

    @property
    def measures(self) -> str:
        return f"{self.seconds:.2f} s · {measure(self.best)}"

    def picture(self, shown: Image.Image, word: str, look: Look = LOOK) -> Picture:
        """What the word rests on; the photo alone where the captioner does not say it."""
        if word not in self.words:
            return Picture(shown, f"{self.title} does not say “{word}”.")
        drawn = word_overlay(shown, self.looked, self.words.index(word), look)
        return Picture(drawn, f"{self.title}: {where(word, self.attends)}")


def to_compare(work: Work, models: Sequence[str]) -> list[str]:
    """Names, once they are known to be as many different ones as can be compared."""
    names = list(dict.fromkeys(models))
    if not LEAST <= len(names) <= MOST:
        raise CaptionBotError(
            f"{len(names)} captioners were named; choose {LEAST} to {MOST} of {', '.join(work.captioners())}."
        )
    return names


def present(seen: Seen, models: Sequence[str]) -> Iterator[Answer]:
    """The answers of captioners, one after the other."""
    work = seen.work
    for model in models:
        asked = replace(seen.asked, settings=Settings(model, work.usual(model)))
        captioned, seconds = work.timed(asked)
        best = captioned.captions[0]
        maps = work.maps(model, seen.photo, best)
        yield Answer(work.title(model), best, maps.on(best), maps.method == "attention", seconds)


def table(answers: Sequence[Answer]) -> Table:
    judged = columns([answer.best for answer in answers])[:2]  # the band is enough beside others
    shown = (
        Column("Captioner"),
        Column("Caption"),
        Column("Likelihood", share=True),
        *judged,
        Column("Seconds", 2),
    )
    rows = [
        [
            answer.title,
            answer.headline,
            answer.best.confidence,
            *cells(answer.best, judged),
            answer.seconds,
        ]
        for answer in answers
    ]
    return Table(shown, rows, TITLE)


def shared_words(sentences: Sequence[Sequence[str]]) -> list[str]:
    """The words of several sentences: those that most have first, of these nouns, then the longest."""
    nouns = {word: noun for words in sentences for word, noun in zip(words, are_nouns(words), strict=True)}
    common = Counter(word for words in sentences for word in set(words))
    return sorted(nouns, key=lambda word: (-common[word], not nouns[word], -len(word)))


def asking(title: str) -> str:
    return f"Asking {title}…"
