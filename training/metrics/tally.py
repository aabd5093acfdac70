"""What a metric counts in every image, from which the scores of any set of images follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tally:
    """Counts of n images, k for each, and how scores follow from their sums.

    BLEU and METEOR of a corpus are not the mean of its images' scores: they follow from sums of counts.
    Of other metrics the counts are the image's score and 1.

    names: of the scores, m.
    counts: (n, k).
    combine: sums of counts, (..., k), to scores, (..., m).
    """

    names: tuple[str, ...]
    counts: np.ndarray
    combine: Callable[[np.ndarray], np.ndarray]

    def corpus(self) -> np.ndarray:
        """The scores of all images together: (m,)."""
        return self.combine(self.counts.sum(axis=0))

    def each(self) -> np.ndarray:
        """The scores of every image on its own: (n, m)."""
        return self.combine(self.counts)


def mean_tally(name: str, scores: np.ndarray) -> Tally:
    """Of a metric whose score of a corpus is the mean of its images' scores: (n,)."""
    return Tally((name,), np.stack((scores, np.ones_like(scores)), axis=1), _mean_of_sums)


def _mean_of_sums(sums: np.ndarray) -> np.ndarray:
    return sums[..., :1] / sums[..., 1:]
