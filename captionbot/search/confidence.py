"""The probability that a caption is right, and the three bands that people are shown.

exp(mean log-probability) says how sure a captioner is of its wording, not whether the caption is true. So a
logistic regression reads what the search knows of its sentences, and where it helps what the photo is like;
`training.fit.confidence` fits it on photos with captions by people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from captionbot.types import Hypothesis

SURE, UNSURE, UNKNOWN = "sure", "unsure", "unknown"


@dataclass(frozen=True)
class Confidence:
    """p = sigmoid(bias + signals . weights + photo . weights of the photo).

    weights: by the names of `signals`.
    photo: of the numbers that the reranker reduces a photo to (`photo_numbers`), () where they have no say.
    sure, unsure: the least p of these two bands; below is "unknown", a kind of photo that was not learned.
    """

    weights: Mapping[str, float]
    bias: float = 0.0
    photo: tuple[float, ...] = field(default=())
    sure: float = 0.5
    unsure: float = 0.25

    def probability(self, hypotheses: Sequence[Hypothesis], photo: np.ndarray | None = None) -> float:
        """That the first of the sentences of a photo, best first, is right.

        photo: (D,), as of `photo_numbers`.
        """
        values = signals(hypotheses)
        logit = self.bias + sum(weight * values[name] for name, weight in self.weights.items())
        if self.photo:
            if photo is None or len(photo) != len(self.photo):
                raise ValueError(f"a photo has {len(self.photo)} numbers here")
            logit += float(np.dot(self.photo, photo))
        return 1 / (1 + math.exp(-max(min(logit, 50.0), -50.0)))

    def band(self, probability: float) -> str:
        """ "sure", "unsure" or "unknown"."""
        if probability >= self.sure:
            return SURE
        return UNSURE if probability >= self.unsure else UNKNOWN


def signals(hypotheses: Sequence[Hypothesis]) -> dict[str, float]:
    """What the search knows of its best sentence, given all that it finished, best first.

    mean, least: of the log-probabilities of its words and its end.
    margin: what its score is ahead of the second's.
    agreement: share of its words that the others say too, on average.
    evidence: of the reranker, a word.
    length: words.
    """
    best, *others = hypotheses
    words, length = set(best.token_ids), max(1, len(best.token_ids))
    shares = [len(words & set(other.token_ids)) / max(1, len(words)) for other in others]
    return {
        "mean": float(np.mean(best.log_probs)),
        "least": float(np.min(best.log_probs)),
        "margin": best.score - others[0].score if others else 0.0,
        "agreement": float(np.mean(shares)) if shares else 1.0,
        "evidence": best.evidence / length,
        "length": float(len(best.token_ids)),
    }


def doubtful_word(hypothesis: Hypothesis) -> int:
    """The number of the word that the captioner found least likely, where it says any."""
    return int(np.argmin(hypothesis.log_probs[: len(hypothesis.token_ids)]))
