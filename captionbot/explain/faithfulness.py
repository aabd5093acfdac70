"""For how many words of many photos is the map of what they need true? And the same of attention, of random
patches and of shuffled outcomes, which the test should believe 1 time in 20."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from captionbot.explain import needs as explain
from captionbot.explain.attention_maps import attention_map
from captionbot.explain.hidden import CELLS
from captionbot.explain.needs import HALVED, SIGNIFICANT, Needs, Verdict
from captionbot.text.parts_of_speech import PARTS, parts_of_speech
from captionbot.types import Caption

_TRIES = 20  # random maps a word, and shuffles a caption, that the test is tried on
_OTHERS_SEED = 50_000  # of those maps: other ones than `needs` compares with


class Measured(NamedTuple):
    """One caption. attention: (T, 64) how much each word looked at each cell; None without attention."""

    needs: Needs
    attention: np.ndarray | None


def measured(found: Needs, caption: Caption, attends: bool) -> Measured:
    """A caption that is measured, with its attention where the captioner attends to several places."""
    words = range(len(caption.words))
    return Measured(found, np.stack([cell_heat(caption, t) for t in words]) if attends else None)


def cell_heat(caption: Caption, t: int) -> np.ndarray:
    """(64,) mean of word t's heatmap over each of the 8 x 8 cells."""
    rows, columns = CELLS
    fine = attention_map(caption, t, (7 * columns, 7 * rows), smooth=False)  # 14 x 14 cells fit too
    means: np.ndarray = fine.reshape(rows, 7, columns, 7).mean((1, 3))
    return means.ravel()


@dataclass(frozen=True)
class Rate:
    """How many of some passed."""

    passed: int
    of: int

    @property
    def share(self) -> float:
        return self.passed / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of 95 % (J. Am. Stat. Assoc. 22, 1927), as if they were independent."""
        n, p, z = max(self.of, 1), self.share, 1.96
        middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
        return max(0.0, float(middle - half)), min(1.0, float(middle + half))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.0%} ({low:.0%} to {high:.0%})"


@dataclass(frozen=True)
class Share:
    """The words of one part of speech.

    part: one of `parts_of_speech.PARTS`, or "all"; words: those tested.
    place, little, photo, sentence: how many have which `Verdict`.
    quarter: whose map is true, and which are half as likely or less without its hottest quarter alone.
    attention: of how many the attention map is true by the same test; None without attention.
    r: the median agreement of their maps with what happened.
    """

    part: str
    words: int
    place: int
    little: int
    photo: int
    sentence: int
    quarter: int = 0
    attention: int | None = None
    r: float = 0.0

    @property
    def true(self) -> Rate:
        """Whose map is true: p <= .05 in the forecast test."""
        return Rate(self.place + self.little, self.words)

    @property
    def halved(self) -> Rate:
        """Whose map is true, and which are half as likely or less where some part of the photo is hidden."""
        return Rate(self.place, self.words)


@dataclass(frozen=True)
class Faithfulness:
    """What the test found of one captioner.

    photos: how many. shares: by part of speech, all words last.
    own: of the nouns of captions with several, those whose own map agrees best of all these nouns' maps;
        own_by_chance: the share of them that would by chance.
    patches: of random maps of patches in the place of the words' own, those that pass; shuffled: of maps that
        are fitted on outcomes in another order.
    """

    photos: int
    shares: tuple[Share, ...]
    own: Rate = field(default_factory=lambda: Rate(0, 0))
    own_by_chance: float = 0.0
    patches: Rate = field(default_factory=lambda: Rate(0, 0))
    shuffled: Rate = field(default_factory=lambda: Rate(0, 0))

    def of(self, part: str) -> Share | None:
        return next((share for share in self.shares if share.part == part), None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Faithfulness:
        """Raises KeyError or TypeError where it is not what `to_json` gives."""
        return cls(
            found["photos"],
            tuple(Share(**share) for share in found["shares"]),
            Rate(**found["own"]),
            found["own_by_chance"],
            Rate(**found["patches"]),
            Rate(**found["shuffled"]),
        )


def over(captions: Iterable[Measured]) -> Faithfulness:
    """The figures over the captions of many photos, one a photo."""
    captions = list(captions)
    nouns = [np.array(parts_of_speech(found.words)) == "noun" for found, _ in captions]
    several = [(found, own) for (found, _), own in zip(captions, nouns, strict=True) if own.sum() > 1]
    best = [_own_is_best(found, own) for found, own in several]
    count = sum(map(len, best))
    return Faithfulness(
        len(captions),
        by_part_of_speech(captions),
        Rate(int(sum(b.sum() for b in best)), count),
        len(several) / count if count else 0.0,
        _rate(_patches(found, seed) for seed, (found, _) in enumerate(captions)),
        _rate(_shuffled(found, seed) for seed, (found, _) in enumerate(captions)),
    )


def by_part_of_speech(captions: Iterable[Measured]) -> tuple[Share, ...]:
    """Figures by part of speech, with all words last; parts of speech without a word are left out."""
    rows: dict[str, list[_Row]] = {part: [] for part in (*PARTS, "all")}
    for found, attention in captions:
        looked: Sequence[bool | None] = [None] * len(found.words)
        if attention is not None:
            looked = (explain.test(attention, found.drops, found.seed)[1] <= SIGNIFICANT).tolist()
        quarter = (found.p <= SIGNIFICANT) & (found.effect >= HALVED)
        own = zip(found.verdicts, quarter.tolist(), found.r.tolist(), looked, strict=True)
        for part, row in zip(parts_of_speech(found.words), own, strict=True):
            rows[part].append(row)
            rows["all"].append(row)
    return tuple(_share(part, row) for part, row in rows.items() if row)


_Row = tuple[Verdict, bool, float, bool | None]  # of a word: also whether its quarter counts, r, attention


def _share(part: str, rows: Sequence[_Row]) -> Share:
    verdicts, quarter, r, looked = zip(*rows, strict=True)
    counts = {verdict.name.lower(): verdicts.count(verdict) for verdict in Verdict}
    attention = None if None in looked else sum(looked)
    return Share(
        part, len(rows), **counts, quarter=sum(quarter), attention=attention, r=round(float(np.median(r)), 3)
    )


def _own_is_best(found: Needs, nouns: np.ndarray) -> np.ndarray:
    """(nouns,) bool: whether no map of another noun foretells better what a noun lost.

    All maps foretell copies that they were not fitted on."""
    fitted = explain.fit(found.drops, found.seed)
    with np.errstate(invalid="ignore"):  # of words that lost nothing
        agreement = np.corrcoef(found.drops[:, nouns].T, fitted.foretold[:, nouns].T)
    count = int(nouns.sum())
    cross = np.nan_to_num(agreement[:count, count:])  # [word, map]
    best: np.ndarray = cross.argmax(1) == np.arange(count)
    return best


def _patches(found: Needs, seed: int) -> np.ndarray:
    words = len(found.words)
    fields = explain.random_fields(words * _TRIES, _OTHERS_SEED + seed)
    tries = [explain.test(some, found.drops, found.seed)[1] for some in fields.reshape(_TRIES, words, -1)]
    return np.concatenate(tries)


def _shuffled(found: Needs, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [explain.fit(rng.permutation(found.drops, axis=0), found.seed).p for _ in range(_TRIES)]
    )


def _rate(tries: Iterable[np.ndarray]) -> Rate:
    passed = np.concatenate([p <= SIGNIFICANT for p in tries] or [np.zeros(0, bool)])
    return Rate(int(passed.sum()), len(passed))
