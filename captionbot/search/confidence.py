"""The probability that a caption is right, the three bands that people are shown, and the reason.

exp(mean log-probability) says how sure a captioner is of its wording, not whether the caption is true. A
logistic regression reads what the search knows of its sentences, what the photo says for their words
(`decoders.evidence`), and how far the photo lies from those that were learned from;
`training.fit.confidence` fits it on photos with captions by people, and docs/confidence.md says how.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from captionbot.decoders.attention import mean_annotation
from captionbot.decoders.evidence import ALONE, WordEvidence
from captionbot.text.general import GENERAL, kinds
from captionbot.text.parts_of_speech import parts_of_speech
from captionbot.text.vocabulary import SubwordVocabulary, Vocabulary
from captionbot.types import Features, Hypothesis, Judgement

VERSION = 1
# The signals of a caption, by what a low one means for it.
WORDS = ("mean", "content", "least", "evidence", "weakest", "nouns", "length")
SENTENCES = ("margin", "agreement")
PHOTO = ("strongest", "top", "unsaid", "distance")
SIGNALS = (*WORDS, *SENTENCES, *PHOTO)
UNLIKE = "the photo is unlike those I learned from"
DISAGREE = "the best sentences disagree"


@dataclass(frozen=True)
class Confidence:
    """The block `confidence` of a card.

    usual, weights: (S,) of the signals: their means in the fit, and their weights; bias: of the logit.
    sure: the least probability of this band; unsure: that of captions of any photo, see `band`.
    word: bias and weights of a word's log-probability and evidence for its being right.
    general: of each of `text.general.GENERAL` the bias, and the slope and least probability of all.
    centres: (K, D) of the photos learned from, in the D numbers of `WordEvidence.photo_numbers`, divided by
        `spread` (D,). far: the distance that 1 in 20 of these photos exceeds.
    """

    usual: np.ndarray
    weights: np.ndarray
    bias: float
    sure: float
    unsure: float
    word: tuple[float, float, float]
    general: Mapping[str, float]
    slope: float
    least: float
    centres: np.ndarray
    spread: np.ndarray
    far: float

    @classmethod
    def read(cls, block: Mapping[str, Any]) -> Confidence:
        """From a card; ValueError, KeyError or TypeError for what is none."""
        if block["version"] != VERSION:
            raise ValueError(f"its confidence is of version {block['version']!r}, not {VERSION}")
        signals = block["signals"]
        usual, weights = np.array([signals[name] for name in SIGNALS], float).T
        spread = _numbers(block["spread"])
        found = cls(
            usual, weights, float(block["bias"]), float(block["sure"]), float(block["unsure"]),
            tuple(float(x) for x in block["word"]),  # type: ignore[arg-type]
            {kind: float(block["general"][kind]) for kind in GENERAL},
            float(block["slope"]), float(block["least"]),
            _numbers(block["centres"]).reshape(-1, len(spread)), spread, float(block["far"]),
        )  # fmt: skip
        parts = [usual, weights, spread, found.centres, [found.bias, found.sure, found.unsure, found.far],
                 found.word, [*found.general.values(), found.slope, found.least]]  # fmt: skip
        if len(found.word) != 3 or not len(found.centres) or not all(np.isfinite(p).all() for p in parts):
            raise ValueError("its confidence is not whole")
        return found

    def block(self) -> dict[str, Any]:
        """As it stands in a card."""
        rounded = np.round(np.stack([self.usual, self.weights], 1), 5).tolist()
        return {
            "version": VERSION,
            "signals": dict(zip(SIGNALS, rounded, strict=True)),
            "bias": round(self.bias, 5),
            "sure": round(self.sure, 4),
            "unsure": round(self.unsure, 4),
            "word": [round(x, 4) for x in self.word],
            "general": {kind: round(x, 4) for kind, x in self.general.items()},
            "slope": round(self.slope, 4),
            "least": round(self.least, 4),
            "centres": _text(self.centres),
            "spread": _text(self.spread),
            "far": round(self.far, 4),
        }

    def distance(self, photos: np.ndarray) -> np.ndarray:
        """(B,) of (B, D) photo numbers to the nearest centre, a dimension."""
        scaled = photos / self.spread
        gaps = (scaled**2).sum(1)[:, None] - 2 * scaled @ self.centres.T + (self.centres**2).sum(1)
        nearest: np.ndarray = np.sqrt(np.maximum(gaps, 0).min(1) / photos.shape[1])
        return nearest

    def probability(self, signals: np.ndarray) -> float:
        return sigmoid(self.bias + float(signals @ self.weights))

    def band(self, probability: float, values: np.ndarray) -> Any:
        """values: (S,) signals. A photo like those learned from is not unknown, however poor its caption."""
        if probability >= self.sure:
            return "sure"
        return "unknown" if probability < self.unsure and self.gains(values)[2] < 0 else "unsure"

    def gains(self, values: np.ndarray) -> list[float]:
        """What the signals of words, sentences and photo add to the logit of a usual caption."""
        gains = dict(zip(SIGNALS, self.weights * (values - self.usual), strict=True))
        return [sum(gains[name] for name in group) for group in (WORDS, SENTENCES, PHOTO)]


class Judge:
    """Judges the captions of one captioner, whose word evidence and vocabulary it asks."""

    def __init__(self, confidence: Confidence, evidence: WordEvidence, vocabulary: Vocabulary) -> None:
        self.confidence, self.evidence, self.vocabulary = confidence, evidence, vocabulary
        numbers = enumerate(evidence.phrases.tolist())
        self.single = {first: number for number, (first, second) in numbers if second == ALONE}
        words = {i: self.vocabulary.decode([i])[0] for i in self.single}
        self.nouns = {i for i, word in words.items() if parts_of_speech([word]) == ("noun",)}
        self.noun_columns = np.array([self.single[i] for i in sorted(self.nouns)], int)
        self.kinds = {
            kind: np.array([self.single[i] for i, word in words.items() if kind in kinds(word)], int)
            for kind in GENERAL
        }

    def judge(
        self, features: Features, found: Sequence[Sequence[Hypothesis]], count: int
    ) -> list[list[Judgement]]:
        """Of a batch of photos, for the first `count` of their sentences.

        found: of each photo all sentences that the search finished, best first.
        """
        says, photos = self.of_photos(features)
        distances = self.confidence.distance(photos)
        return [
            [self._judgement(hypotheses, rank, row, far) for rank in range(len(hypotheses[:count]))]
            for hypotheses, row, far in zip(found, says, distances, strict=True)
        ]

    def of_photos(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """(B, N) evidence of the phrases, and (B, D) photo numbers."""
        with torch.inference_mode(), torch.autocast(features.values.device.type, enabled=False):
            means = mean_annotation(features.values.float(), features.mask)
            of_phrases, numbers = self.evidence.of_means(means), self.evidence.photo_numbers(means)
        says, photos = (
            np.nan_to_num(part.float().cpu().numpy(), posinf=0, neginf=0) for part in (of_phrases, numbers)
        )
        return says, photos

    def signals(
        self, found: Sequence[Hypothesis], rank: int, says: np.ndarray, distance: float
    ) -> np.ndarray:
        """(S,) what is known of a sentence among those that the search finished, NaN where nothing is.

        mean, content, least: log-probabilities of its words and end, of its nouns, verbs and adjectives, and
            of the least likely; length: words.
        evidence: a word; strongest, weakest, nouns: most, least and mean evidence of its nouns.
        margin: what its score is ahead of the best other; agreement: the share of its words that others say.
        top, unsaid: the most evidence of any noun, and of any that it does not say.
        distance: of the photo to those learned from.
        """
        best, others = found[rank], [other for i, other in enumerate(found) if i != rank]
        words, content = set(best.token_ids), self._content(best)
        named = [says[self.single[i]] for i in best.token_ids if i in self.nouns] or [0.0]
        rest = [self.single[i] for i in self.nouns if i not in words]
        shares = [len(words & set(other.token_ids)) / max(1, len(words)) for other in others]
        values = {
            "mean": np.mean(best.log_probs),
            "content": np.mean(best.log_probs[content]) if content else np.mean(best.log_probs),
            "least": np.min(best.log_probs),
            "evidence": says[self.evidence.said(best.token_ids)].sum() / max(1, len(best.token_ids)),
            "strongest": max(named),
            "weakest": min(named),
            "nouns": np.mean(named),
            "length": len(best.token_ids),
            "margin": best.score - max(other.score for other in others) if others else np.nan,
            "agreement": np.mean(shares) if others else np.nan,
            "top": says[self.noun_columns].max(initial=0.0),
            "unsaid": says[rest].max(initial=0.0),
            "distance": distance,
        }
        return np.array([values[name] for name in SIGNALS], float)

    def _content(self, hypothesis: Hypothesis) -> list[int]:
        """Places of the nouns, verbs and adjectives."""
        parts = parts_of_speech(self.vocabulary.decode(hypothesis.token_ids))
        return [t for t, part in enumerate(parts) if part in ("noun", "verb", "adjective")]

    def word_signals(self, hypothesis: Hypothesis, says: np.ndarray) -> dict[int, tuple[float, float]]:
        """Log-probability and evidence (0 where it has none) of the words that could be wrong, by place."""
        ids = hypothesis.token_ids
        return {
            t: (
                float(hypothesis.log_probs[t]),
                float(says[self.single[ids[t]]]) if ids[t] in self.single else 0.0,
            )
            for t in self._content(hypothesis)
        }

    def general_signals(self, says: np.ndarray) -> dict[str, float]:
        """The evidence of all nouns of a kind together, of those kinds that the captioner has nouns of."""
        return {kind: float(np.logaddexp.reduce(says[at])) for kind, at in self.kinds.items() if len(at)}

    def _judgement(
        self, found: Sequence[Hypothesis], rank: int, says: np.ndarray, distance: float
    ) -> Judgement:
        fit = self.confidence
        values = self.signals(found, rank, says, distance)
        values = np.where(np.isnan(values), fit.usual, values)
        probability = fit.probability(values)
        band = fit.band(probability, values)
        if band == "sure":
            return Judgement(probability, band)
        doubts = {
            t: fit.word[0] + fit.word[1] * log_prob + fit.word[2] * evidence
            for t, (log_prob, evidence) in self.word_signals(found[rank], says).items()
        }
        doubtful = min(doubts, key=doubts.__getitem__, default=None)
        groups = fit.gains(values)
        disagree = values[SIGNALS.index("agreement")] < fit.usual[SIGNALS.index("agreement")]
        if band == "unknown" or distance > fit.far or groups[2] == min(groups):
            reason = UNLIKE
        elif (groups[1] == min(groups) and disagree) or doubtful is None:
            reason = DISAGREE
        else:
            word = self.vocabulary.decode(found[rank].token_ids)[doubtful]
            reason = f"the word “{word}” is doubtful"
        chances = {k: sigmoid(fit.general[k] + fit.slope * x) for k, x in self.general_signals(says).items()}
        general = max(chances, key=chances.__getitem__, default="")
        if not general or chances[general] < fit.least:
            return Judgement(probability, band, reason, doubtful)
        return Judgement(probability, band, reason, doubtful, general, chances[general])


def judge_of(block: Mapping[str, Any], evidence: WordEvidence | None, vocabulary: Vocabulary) -> Judge | None:
    """The judge of a card's block, None where there is none or no words to judge."""
    if not block:
        return None
    confidence = Confidence.read(block)
    if evidence is None or isinstance(vocabulary, SubwordVocabulary):
        return None
    return Judge(confidence, evidence, vocabulary)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-max(min(logit, 50.0), -50.0)))


def _text(numbers: np.ndarray) -> str:
    return base64.b64encode(numbers.astype("<f2").tobytes()).decode()


def _numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)
