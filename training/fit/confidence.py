"""Fit the probability that a captioner's captions are right: `python -m training.confidence CAPTIONER`.

A caption counts as right where its CIDEr-D against people's captions of the photo reaches `--level`. A
logistic regression (`captionbot.search.confidence`) reads the search's signals and, where they help, the
numbers that the reranker reduces a photo to; inputs and penalty are chosen by cross-validation. All that is
reported is of photos that the fit at hand had not seen: AUC, expected calibration error (arXiv 1706.04599),
and risk by coverage (arXiv 1705.08500).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from captionbot.cli.commands import Parser, command
from captionbot.decoders.attention import mean_annotation
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.search.confidence import Confidence, signals
from captionbot.search.options import SearchOptions
from captionbot.store import card as cards
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import load_vocabulary
from training.metrics import CiderD
from training.run.config import TrainingConfig
from training.run.distributed import World
from training.run.features import BATCH, autocast, cached_features
from training.run.splits import Split, read_splits, with_pixels
from training.run.stages import search

FOLDS, BINS = 10, 10
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
COVERAGES = (0.1, 0.25, 0.5, 0.75, 1.0)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    summary, *_ = (__doc__ or "").splitlines()
    defaults = TrainingConfig()
    parser = Parser("python -m training.confidence", description=summary)
    parser.add_argument("captioner", help="folder of a run, name or card of a captioner")
    parser.add_argument("--data", default=defaults.data, help="whose val photos are captioned")
    parser.add_argument("--images", default=defaults.images, help="its photos, where they lie apart")
    parser.add_argument("--cache", default=defaults.cache, help="folder for decoded photos and features")
    parser.add_argument("--level", type=float, default=0.5, help="CIDEr-D of a right caption (default: 0.5)")
    parser.add_argument("--out", type=Path, default=Path("confidence.json"))
    given = parser.parse_args(arguments)
    config = dataclasses.replace(defaults, data=given.data, images=given.images, cache=given.cache)
    report = fitted(*captioned(given, config))
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in report.items() if k != "confidence"}, indent=1))
    return 0


def captioned(
    given: argparse.Namespace, config: TrainingConfig
) -> tuple[list[dict[str, float]], np.ndarray, np.ndarray]:
    """Of each val photo the signals, what it is like (n, D), and whether its caption is right."""
    card, encoder, decoder = cards.load(find_card(given.captioner))
    if decoder.evidence is None:
        raise CaptionBotError(f"{card.name} has no reranker, which says what a photo is like; fit it first.")
    vocabulary, options = load_vocabulary(card.vocabulary), SearchOptions(**card.search)
    preprocessing, device = Preprocessing.from_json(card.preprocessing), torch.device("cpu")
    _, val = read_splits(config)
    val, pixels = with_pixels(val, config, preprocessing, World(device))
    cache = Path(config.cache)
    features = cached_features(encoder, preprocessing, pixels, False, cache, device, config.amp)
    found, photos, captions = [], [], []
    for images in np.array_split(np.arange(len(val)), math.ceil(len(val) / BATCH)):
        with torch.inference_mode(), autocast(device, config.amp):
            seen = features(encoder, images)
            for hypotheses in search(decoder, seen, vocabulary, options):
                found.append(signals(hypotheses))
                captions.append(vocabulary.decode(hypotheses[0].token_ids))
            photos.append(decoder.evidence.photo_numbers(mean_annotation(seen.values, seen.mask)).numpy())
    return found, np.concatenate(photos), right(captions, val, given.level)


def right(captions: Sequence[list[str]], val: Split, level: float) -> np.ndarray:
    """(n,) bool, whether each caption's CIDEr-D reaches the level, within its data set."""
    scores = np.zeros(len(captions))
    for images in val.by_source().values():
        scores[images] = CiderD([val.captions[i] for i in images])([captions[i] for i in images])
    return scores >= level


def fitted(found: Sequence[dict[str, float]], photos: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """The regression, and what it is worth on photos that it was not fitted on."""
    names = list(found[0])
    told = np.array([[row[name] for name in names] for row in found])
    tried = {
        "the mean log-probability alone": told[:, :1],
        "the search's signals": told,
        "those and what the photo is like": np.concatenate([told, photos], 1),
    }
    held = {name: held_out(inputs, correct) for name, inputs in tried.items()}
    chosen = min(held, key=lambda name: surprise(held[name][0], correct))
    penalty = held[chosen][1]
    weights, bias = logistic(tried[chosen], correct, penalty)
    of_signals, of_photo = weights[: len(names)].tolist(), weights[len(names) :].tolist()
    confidence = Confidence(dict(zip(names, of_signals, strict=False)), bias, tuple(of_photo))
    return {
        "photos": len(correct),
        "right": float(correct.mean()),
        "chosen": chosen,
        "penalty": penalty,
        "held out": {name: report(p, correct) for name, (p, _) in held.items()},
        "confidence": dataclasses.asdict(confidence),
    }


def held_out(inputs: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, float]:
    """(n,) probabilities by fits to the other folds, and the penalty with the least surprise."""
    folds = np.random.default_rng(0).permutation(len(correct)) % FOLDS
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


def report(p: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """AUC, expected calibration error with its bins, and risk by coverage."""
    ranks = np.argsort(np.argsort(p, kind="stable"), kind="stable")
    yes, no = int(correct.sum()), int((~correct).sum())
    auc = (ranks[correct].sum() - yes * (yes - 1) / 2) / max(1, yes * no)
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
    return {"AUC": float(auc), "expected calibration error": error, "bins": table, "risk by coverage": risks}


if __name__ == "__main__":
    sys.exit(main())
