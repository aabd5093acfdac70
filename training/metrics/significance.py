"""How sure a score is, and whether one captioner is really better than another.

Both resample images, all at once, through a metric's `Tally`. CIDEr-D's weights of n-grams stay those
of the whole corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from training.metrics.tally import Tally

LEVEL = 0.95
_AT_ONCE = 500  # samples; more would only take more memory


@dataclass(frozen=True)
class Difference:
    """Of one score between two captioners on the same images, the second less the first.

    low, high: the interval that holds 95 % of the paired bootstrap's differences.
    p: how often chance alone gives so large a difference, either way, by approximate randomisation.
    """

    name: str
    first: float
    second: float
    low: float
    high: float
    p: float

    @property
    def difference(self) -> float:
        return self.second - self.first


def intervals(tallies: Sequence[Tally], samples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The interval that holds 95 % of bootstrapped scores, by name (Efron, 1979, percentiles)."""
    return {
        name: (float(low), float(high))
        for tally, scores in zip(tallies, _bootstrap(tallies, samples, seed), strict=True)
        for name, low, high in zip(tally.names, *_interval(scores), strict=True)
    }


def differences(
    first: Sequence[Tally], second: Sequence[Tally], samples: int = 1000, seed: int = 0
) -> list[Difference]:
    """Every score of two captioners compared, image by image in the same order.

    The interval is that of a paired bootstrap (Koehn, 2004). p is of approximate randomisation (Noreen,
    1989): captions are swapped between the captioners, image by image, as a coin falls.
    """
    found = []
    both = zip(
        first,
        second,
        _bootstrap(first, samples, seed),
        _bootstrap(second, samples, seed),  # the same seed, so the same images
        _swapped(first, second, samples, seed),
        strict=True,
    )
    for a, b, scores_a, scores_b, by_chance in both:
        ours = b.corpus() - a.corpus()
        # Sums of the same numbers in another order differ by rounding.
        as_large = (np.abs(by_chance) >= np.abs(ours) - 1e-12).sum(axis=0)
        columns = zip(
            a.names,
            a.corpus(),
            b.corpus(),
            *_interval(scores_b - scores_a),
            (as_large + 1) / (samples + 1),
            strict=True,
        )
        found += [Difference(name, *map(float, values)) for name, *values in columns]
    return found


def _interval(scores: np.ndarray) -> np.ndarray:
    """(samples, m) -> (2, m)."""
    return np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _bootstrap(tallies: Sequence[Tally], samples: int, seed: int) -> list[np.ndarray]:
    """Scores of corpora of as many images, drawn with replacement: (samples, m) for each tally."""
    random, n = np.random.default_rng(seed), len(tallies[0].counts)

    def times_drawn(size: int) -> np.ndarray:
        drawn = random.integers(n, size=(size, n)) + n * np.arange(size)[:, np.newaxis]
        return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)

    sums = np.concatenate([times_drawn(size) @ _side_by_side(tallies) for size in _sizes(samples)])
    return [tally.combine(part) for tally, part in zip(tallies, _apart(sums, tallies), strict=True)]


def _swapped(
    first: Sequence[Tally], second: Sequence[Tally], samples: int, seed: int
) -> Iterator[np.ndarray]:
    """Differences of scores after swapping each image's captions by a coin: (samples, m) for each tally."""
    random, a, b = np.random.default_rng(seed), _side_by_side(first), _side_by_side(second)
    coins = (random.integers(2, size=(size, len(a))) for size in _sizes(samples))
    moved = np.concatenate([coin @ (b - a) for coin in coins])
    parts = zip(
        first,
        _apart(a.sum(axis=0) + moved, first),
        _apart(b.sum(axis=0) - moved, first),
        strict=True,
    )
    for tally, sums_a, sums_b in parts:
        yield tally.combine(sums_b) - tally.combine(sums_a)


def _sizes(samples: int) -> list[int]:
    return [min(_AT_ONCE, samples - start) for start in range(0, samples, _AT_ONCE)]


def _side_by_side(tallies: Sequence[Tally]) -> np.ndarray:
    return np.concatenate([tally.counts for tally in tallies], axis=1)


def _apart(sums: np.ndarray, tallies: Sequence[Tally]) -> list[np.ndarray]:
    return np.split(sums, np.cumsum([tally.counts.shape[1] for tally in tallies])[:-1], axis=-1)
