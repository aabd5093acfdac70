"""Fit the probability that a captioner's captions are right: `python -m training.confidence CAPTIONER`.

A caption counts as right where somebody names its subject (the word or its kind, `captionbot.text.general`)
and its CIDEr-D against people's captions of the photo reaches `--level`; it is absurd where nobody names its
subject and the level is not reached. A logistic regression (`captionbot.search.confidence`) reads the
signals; its penalty is chosen by cross-validation. All that is reported is of photos that the fit at hand had
not seen: AUC, expected calibration error (arXiv 1706.04599), and risk by coverage (arXiv 1705.08500).
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from captionbot.cli.commands import Parser, command
from captionbot.decoders.evidence import WordEvidence
from captionbot.draw import plots
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.search.confidence import SIGNALS, Confidence, Judge
from captionbot.search.options import SearchOptions
from captionbot.store import card as cards
from captionbot.store.registry import find_card
from captionbot.text.general import GENERAL, kinds
from captionbot.text.parts_of_speech import parts_of_speech
from captionbot.text.vocabulary import SubwordVocabulary, load_vocabulary
from captionbot.types import Features, Hypothesis
from training.metrics import CiderD
from training.run.config import TrainingConfig
from training.run.distributed import World
from training.run.features import BATCH, autocast, cached_features
from training.run.splits import Split, read_splits, with_pixels
from training.run.stages import search

FOLDS, BINS = 10, 10
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
COVERAGES = (0.1, 0.25, 0.5, 0.75, 1.0)
FLAGGED, UNKNOWN = 0.1, 0.05  # shares of right captions, at most, that are not "sure", and that are "unknown"
OFFERED = 0.9  # the least probability of a general word that is offered
CENTRES, LEARNED, ITERATIONS = 24, 600, 20  # of the photos learned from: groups, photos, steps of k-means
COUNTING = {"group", "bunch", "couple", "front", "side", "top", "lot", "pair", "picture", "photo"}


@dataclass(frozen=True)
class Seen:
    """What the search and the photos say, of n val photos.

    found: the sentences, best first. says: (n, N) evidence; photos: (n, D) photo numbers; learned: (m, D) of
    photos that were learned from.
    """

    found: list[Sequence[Hypothesis]]
    says: np.ndarray
    photos: np.ndarray
    learned: np.ndarray


@command
def main(arguments: Sequence[str] | None = None) -> int:
    summary, *_ = (__doc__ or "").splitlines()
    defaults = TrainingConfig()
    parser = Parser("python -m training.confidence", description=summary)
    parser.add_argument(
        "captioner", help="name or card of a captioner, whose card gets the block `confidence`"
    )
    parser.add_argument("--data", default=defaults.data, help="whose val photos are captioned")
    parser.add_argument("--images", default=defaults.images, help="its photos, where they lie apart")
    parser.add_argument("--cache", default=defaults.cache, help="folder for decoded photos and features")
    parser.add_argument("--level", type=float, default=0.3, help="CIDEr-D of a right caption (default: 0.3)")
    parser.add_argument("--out", type=Path, help="card to write instead of the captioner's own")
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="picture of how often captions are right that it is sure of"
    )
    given = parser.parse_args(arguments)
    path = find_card(given.captioner)
    config = dataclasses.replace(defaults, data=given.data, images=given.images, cache=given.cache)
    card, encoder, decoder = cards.load(path)
    vocabulary = load_vocabulary(card.vocabulary)
    if not isinstance(decoder.evidence, WordEvidence) or isinstance(vocabulary, SubwordVocabulary):
        raise CaptionBotError(
            f"{card.name} has no word evidence, which says what a photo is like; fit it first."
        )
    judge = Judge(_blank(decoder.evidence.numbers), decoder.evidence, vocabulary)
    train, val = read_splits(config)
    preprocessing, options = Preprocessing.from_json(card.preprocessing), SearchOptions(**card.search)

    def features(split: Split) -> tuple[Split, Iterator[Features]]:
        split, pixels = with_pixels(split, config, preprocessing, World(torch.device("cpu")))
        source = cached_features(
            encoder, preprocessing, pixels, False, Path(config.cache), torch.device("cpu"), config.amp
        )
        parts = np.array_split(np.arange(len(split)), math.ceil(len(split) / BATCH))
        return split, (source(encoder, images) for images in parts)

    some = np.random.default_rng(0).permutation(len(train))[:LEARNED]
    _, learned = features(train[sorted(some.tolist())])
    val, photos = features(val)
    with torch.inference_mode(), autocast(torch.device("cpu"), config.amp):
        seen = seen_by(judge, learned, photos, lambda f: search(decoder, f, vocabulary, options))
    block, measured = fitted(judge, seen, val, given.level)
    measured |= {"data": given.data, "beam_size": options.beam_size}
    dataclasses.replace(card, confidence=block | {"measured": measured}).write(given.out or path)
    if given.plot:
        plots.reliability(measured["held out"]).savefig(given.plot)
    print(json.dumps(measured, indent=1))
    return 0


def seen_by(
    judge: Judge,
    learned: Iterator[Features],
    photos: Iterator[Features],
    caption: Callable[[Features], Sequence[Sequence[Hypothesis]]],
) -> Seen:
    """caption: the sentences of each photo of a batch."""
    far = np.concatenate([judge.of_photos(features)[1] for features in learned])
    found: list[Sequence[Hypothesis]] = []
    rows = []
    for features in photos:
        found += caption(features)
        rows.append(judge.of_photos(features))
    says, numbers = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return Seen(found, says, numbers, far)


def fitted(judge: Judge, seen: Seen, val: Split, level: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The block of a card, and what it was measured to be worth on photos that its fits had not seen."""
    captions = [judge.vocabulary.decode(hypotheses[0].token_ids) for hypotheses in seen.found]
    named = np.array([names_subject(*pair) for pair in zip(captions, val.captions, strict=True)])
    reached = cider(captions, val) >= level
    correct, absurd = named & reached, ~named & ~reached
    fit = dataclasses.replace(judge.confidence, **familiar(seen.learned))
    photos = zip(seen.found, seen.says, fit.distance(seen.photos), strict=True)
    told = np.array([judge.signals(found, 0, says, distance) for found, says, distance in photos])
    usual = np.nanmean(told, 0)
    told = np.where(np.isnan(told), usual, told)
    p, penalty = held_out(told, correct)
    weights, bias = logistic(told, correct, penalty)
    sources = val.by_source()
    # On the data set where most would be flagged. "lower": between two, one more would be flagged.
    sure, unsure = (
        min(np.quantile(p[i][correct[i]], share, method="lower") for i in map(np.array, sources.values()))
        for share in (FLAGGED, UNKNOWN)
    )
    word, words = fitted_words(judge, seen, val)
    general, generals = fitted_general(judge, seen, val, p < sure)
    fit = dataclasses.replace(
        fit,
        usual=usual,
        weights=weights,
        bias=bias,
        sure=float(sure),
        unsure=float(unsure),
        word=word,
        **general,
    )
    bands = np.array([fit.band(x, values) for x, values in zip(p, told, strict=True)])
    parts = {name or "all": np.array(images) for name, images in sources.items()}
    if len(parts) > 1:
        parts = {"all": np.arange(len(p))} | parts
    measured = {
        "level": level,
        "penalty": penalty,
        "held out": {
            name: report(p[i], correct[i]) | bands_of(bands[i], correct[i], absurd[i])
            for name, i in parts.items()
        },
        "AUC of one signal": {
            name: round(auc(told[:, s] * np.sign(weights[s]), correct), 3) for s, name in enumerate(SIGNALS)
        },
        "words": words,
        "general": generals,
    }
    return fit.block(), measured


def names_subject(caption: Sequence[str], people: Sequence[Sequence[str]]) -> bool:
    """Whether somebody names the first thing that a caption names, by the word or by one of its kind."""
    parts = parts_of_speech(caption)
    nouns = [w for w, part in zip(caption, parts, strict=True) if part == "noun" and w not in COUNTING]
    return not nouns or is_said(nouns[0], {word for words in people for word in words})


def is_said(word: str, words: set[str]) -> bool:
    """Whether a word, its singular or plural, or another of its kind is among words."""
    if not words.isdisjoint({word, f"{word}s", word.removesuffix("s")}):
        return True
    own = set(kinds(word))
    return bool(own) and any(not own.isdisjoint(kinds(other)) for other in words)


def cider(captions: Sequence[list[str]], val: Split) -> np.ndarray:
    """(n,) CIDEr-D of each caption, within its data set."""
    scores = np.zeros(len(captions))
    for images in val.by_source().values():
        scores[images] = CiderD([val.captions[i] for i in images])([captions[i] for i in images])
    return scores


def familiar(learned: np.ndarray) -> dict[str, Any]:
    """The centres of the photos learned from, by k-means (Lloyd, 1982), and how far 1 in 20 of them lies.

    learned: (m, D).
    """
    spread = learned.std(0) + 1e-6
    photos, rng = learned / spread, np.random.default_rng(0)
    centres = photos[rng.choice(len(photos), min(CENTRES, len(photos)), replace=False)]
    for _ in range(ITERATIONS):
        nearest = (((photos[:, None] - centres) ** 2).sum(2)).argmin(1)
        centres = np.stack([photos[nearest == k].mean(0) if (nearest == k).any() else centres[k]
                            for k in range(len(centres))])  # fmt: skip
    gaps = np.sqrt(((photos[:, None] - centres) ** 2).sum(2).min(1) / photos.shape[1])
    return {"centres": centres, "spread": spread, "far": float(np.quantile(gaps, 0.95))}


def fitted_words(judge: Judge, seen: Seen, val: Split) -> tuple[tuple[float, float, float], dict[str, Any]]:
    """Bias and weights of a word's signals, and how well they tell the words that nobody says."""
    rows, said, photo = [], [], []
    for n, (found, says) in enumerate(zip(seen.found, seen.says, strict=True)):
        words = judge.vocabulary.decode(found[0].token_ids)
        people = {word for caption in val.captions[n] for word in caption}
        for t, signals in judge.word_signals(found[0], says).items():
            rows.append(signals)
            said.append(is_said(words[t], people))
            photo.append(n)
    inputs, right = np.array(rows), np.array(said)
    p, penalty = held_out(inputs, right, np.array(photo))
    weights, bias = logistic(inputs, right, penalty)
    doubtful = [
        at[np.argmin(p[at])] for n in range(len(seen.found)) if len(at := np.flatnonzero(np.equal(photo, n)))
    ]
    measured = {
        "words": len(right),
        "said": float(right.mean()),
        "AUC": auc(p, right),
        "AUC of the log-probability": auc(inputs[:, 0], right),
        "doubtful words that nobody says": float(1 - right[doubtful].mean()),
    }
    return (bias, float(weights[0]), float(weights[1])), measured


def fitted_general(
    judge: Judge, seen: Seen, val: Split, flagged: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Biases and slope of the kinds, and how often the likeliest of a photo is right where it is offered.

    flagged: (n,) the photos whose captions are not sure, which one is offered for.
    """
    names = [kind for kind, at in judge.kinds.items() if len(at)]
    told = np.array([[judge.general_signals(says)[name] for name in names] for says in seen.says])
    truth = np.array([[bool(GENERAL[name] & {w for c in people for w in c}) for name in names]
                      for people in val.captions])  # fmt: skip
    ones = np.tile(np.eye(len(names)), (len(told), 1))
    inputs, right = np.c_[told.ravel(), ones], truth.ravel()
    photo = np.repeat(np.arange(len(told)), len(names))
    p, penalty = held_out(inputs, right, photo)
    weights, bias = logistic(inputs, right, penalty)
    best = p.reshape(told.shape).argmax(1)
    chance, held = p.reshape(told.shape).max(1), truth[np.arange(len(told)), best]
    offered = chance >= OFFERED
    measured = {
        "offered": float(offered.mean()),
        "right where offered": float(held[offered].mean()) if offered.any() else None,
        "offered for captions that are not sure": int((offered & flagged).sum()),
        "right of these": int((held & offered & flagged).sum()),
        "by kind": {
            name: {"offered": int(own.sum()), "right": int((held & own).sum())}
            for k, name in enumerate(names)
            for own in [offered & (best == k)]
        },
    }
    biases = dict.fromkeys(GENERAL, -50.0) | dict(zip(names, (bias + weights[1:]).tolist(), strict=True))
    return {"general": biases, "slope": float(weights[0]), "least": OFFERED}, measured


def held_out(
    inputs: np.ndarray, correct: np.ndarray, groups: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """(n,) probabilities by fits to the other folds, and the penalty with the least surprise.

    groups: (n,) of rows that stay in one fold; None where each is its own.
    """
    groups = np.arange(len(correct)) if groups is None else groups
    folds = (np.random.default_rng(0).permutation(groups.max() + 1) % FOLDS)[groups]
    tried = []
    for penalty in PENALTIES:
        p = np.zeros(len(correct))
        for fold in range(FOLDS):
            weights, bias = logistic(inputs[folds != fold], correct[folds != fold], penalty)
            p[folds == fold] = sigmoid(inputs[folds == fold] @ weights + bias)
        tried.append((p, penalty))
    return min(tried, key=lambda one: surprise(one[0], correct))


def surprise(p: np.ndarray, correct: np.ndarray) -> float:
    """The mean negative log-likelihood of what is so."""
    return float(-np.mean(np.log(np.where(correct, p, 1 - p).clip(1e-9))))


def logistic(inputs: np.ndarray, correct: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Weights (D,) and bias of a logistic regression, by Newton's method.

    penalty: on the squared weights of standardised inputs.
    """
    centre, spread = inputs.mean(0), inputs.std(0) + 1e-9
    x = np.concatenate([(inputs - centre) / spread, np.ones((len(inputs), 1))], 1)
    ridge = np.diag([penalty] * inputs.shape[1] + [1e-6])
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = sigmoid(x @ weights)
        gradient = x.T @ (p - correct) + ridge @ weights
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    own = weights[:-1] / spread
    return own, float(weights[-1] - own @ centre)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.clip(-50, 50)))


def auc(p: np.ndarray, correct: np.ndarray) -> float:
    """The chance that a right one has the greater p of two, ties counted by their order."""
    ranks = np.argsort(np.argsort(p, kind="stable"), kind="stable")
    yes, no = int(correct.sum()), int((~correct).sum())
    return float((ranks[correct].sum() - yes * (yes - 1) / 2) / max(1, yes * no))


def report(p: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """AUC, expected calibration error with its bins, and risk by coverage."""
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    table = [
        {"from": b / BINS, "photos": int(inside.sum()), "said": float(p[inside].mean()),
         "right": float(correct[inside].mean())}
        for b in range(BINS) if (inside := bins == b).any()
    ]  # fmt: skip
    error = sum(row["photos"] * abs(row["said"] - row["right"]) for row in table) / len(p)
    order = np.argsort(-p, kind="stable")
    risks = {
        f"{share:g}": float(1 - correct[order[: max(1, round(share * len(p)))]].mean()) for share in COVERAGES
    }
    return {
        "photos": len(p), "right": float(correct.mean()), "AUC": auc(p, correct),
        "expected calibration error": error, "bins": table, "risk by coverage": risks,
    }  # fmt: skip


def bands_of(bands: np.ndarray, correct: np.ndarray, absurd: np.ndarray) -> dict[str, Any]:
    """How many captions each band has, how many of them are right or absurd, and what is not "sure"."""
    flagged = bands != "sure"
    return {
        "bands": {
            band: {
                "photos": int(own.sum()),
                "right": int((own & correct).sum()),
                "absurd": int((own & absurd).sum()),
            }
            for band in ("sure", "unsure", "unknown") for own in [bands == band]
        },
        "absurd": float(absurd.mean()),
        "absurd and unflagged": float((absurd & ~flagged).mean()),
        "right ones flagged": float(flagged[correct].mean()) if correct.any() else None,
    }  # fmt: skip


def _blank(numbers: int) -> Confidence:
    """One that knows nothing yet."""
    nothing, one = np.zeros(len(SIGNALS)), np.ones(numbers, np.float32)
    return Confidence(nothing, nothing, 0.0, 0.5, 0.25, (0.0, 0.0, 0.0), {}, 0.0, 1.0, one[None], one, 0.0)


if __name__ == "__main__":
    sys.exit(main())
