"""Fit a captioner's word evidence: `python -m training.evidence RUN --out DIR`.

One linear layer learns from the encoder's mean feature of each training photo which words people say of
it, in no order. Its weight beside the decoder's log-probabilities is the one with the best CIDEr-D on val,
among a few. The captioner in DIR is that of RUN, with it, or without where that helps nothing; train RUN
further, and it has to be fitted again.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from captionbot import card as cards
from captionbot.commands import Parser, command
from captionbot.decoders import WordEvidence
from captionbot.decoders.attention import mean_annotation
from captionbot.errors import CaptionBotError
from captionbot.images import Preprocessing
from captionbot.search_options import SearchOptions
from captionbot.types import Features, Hypothesis
from captionbot.vocabulary import Vocabulary, load_vocabulary
from training.captioners import load_to_train
from training.checkpoints import prepare_folder, written
from training.config import MOST, TrainingConfig, check_least
from training.distributed import World, device_of
from training.features import BATCH, PixelFeatures, autocast
from training.metrics import CiderD
from training.splits import Split, Words, read_splits, with_pixels
from training.stages import search

WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
EPOCHS, LEAST_STEPS, BATCH_SIZE = 16, 960, 100
LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 2e-3, 0.1, 0.3


@command
def main(arguments: Sequence[str] | None = None) -> int:
    summary, *_ = (__doc__ or "").splitlines()
    defaults = TrainingConfig()
    parser = Parser("python -m training.evidence", description=summary)
    parser.add_argument("captioner", help="folder of a run, name or card of a captioner")
    parser.add_argument("--out", type=Path, required=True, help="folder of the captioner with word evidence")
    parser.add_argument(
        "--data", default=defaults.data, help="data set to learn from and choose the weight on"
    )
    parser.add_argument("--images", default=defaults.images, help="its photos, where they lie apart")
    parser.add_argument("--limit", type=int, default=0, help="use only the first so many photos, for val too")
    parser.add_argument("--cache", default=defaults.cache, help="folder for decoded photos")
    parser.add_argument("--rank", type=int, default=64, help="numbers that a photo's feature is reduced to")
    parser.add_argument("--min-count", type=int, default=15, help="photos that a word has to be said of")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    config = dataclasses.replace(
        defaults, data=given.data, images=given.images, limit=given.limit, cache=given.cache
    )
    check_least(given, {"rank": 1, "min_count": 1, "seed": 0}, {"seed": MOST["seed"]})
    prepare_folder(given.out, used=True)
    path, scores = add_evidence(given, config)
    print("CIDEr-D on val, by the weight of the evidence:")
    print("  ".join(f"{weight:g}: {score:.4f}" for weight, score in scores.items()))
    print(path)
    return 0


def add_evidence(given: argparse.Namespace, config: TrainingConfig) -> tuple[Path, dict[float, float]]:
    """The card of the captioner with evidence, and what each weight scores on val."""
    card, encoder, decoder = load_to_train(given.captioner)
    device, vocabulary = device_of(given.device), load_vocabulary(card.vocabulary)
    preprocessing, world = Preprocessing.from_json(card.preprocessing), World(device)
    encoder, decoder = encoder.to(device).eval(), decoder.to(device).eval()

    def encoded(split: Split) -> tuple[Split, Iterator[Features]]:
        split, pixels = with_pixels(split, config, preprocessing, world)
        photos = PixelFeatures(pixels, preprocessing, device)
        batches = np.array_split(np.arange(len(split)), math.ceil(len(split) / BATCH))
        return split, (
            photos(encoder, batch) for batch in tqdm(batches, "photos", unit="batch", mininterval=1)
        )

    train, val = read_splits(config)
    with torch.inference_mode(), autocast(device, config.amp):
        train, features = encoded(train)
        means = torch.cat([mean_annotation(f.values.float(), f.mask).cpu() for f in features])
    bags = bags_of_words(train, vocabulary)
    fitted = {"rank": given.rank, "min_count": given.min_count, "seed": given.seed}
    decoder.evidence = fit(means.clone(), bags, **fitted).to(device)
    options = SearchOptions(**card.search)
    with torch.inference_mode(), autocast(device, config.amp):
        val, features = encoded(val)
        found = [image for f in features for image in search(decoder, f, vocabulary, options)]
    scores = score_weights(found, val.captions, vocabulary, options)
    weight = max(scores, key=lambda weight: scores[weight])
    if weight:
        with torch.no_grad():
            for tensor in decoder.evidence.words.parameters():
                tensor.mul_(weight)
    else:
        decoder.evidence = None
    tried = {f"{weight:g}": score for weight, score in scores.items()}
    training = card.training | {"evidence": fitted | {"weight": weight, "CIDEr on val": tried}}
    card = dataclasses.replace(card, evidence={"rank": given.rank} if weight else {}, training=training)
    with written("The captioner", given.out, "run the command again"):
        return cards.save(given.out, card, encoder, decoder), scores


def bags_of_words(split: Split, vocabulary: Vocabulary) -> Tensor:
    """(n, V) share of an image's captions that say a word."""
    bags = torch.zeros(len(split), len(vocabulary))
    for bag, captions in zip(bags, split.captions, strict=True):
        for words in captions:
            bag[list(set(vocabulary.encode(words)))] += 1 / len(captions)
    bags[:, list(vocabulary.special_ids)] = 0
    return bags


def fit(means: Tensor, bags: Tensor, *, rank: int, min_count: int, seed: int) -> WordEvidence:
    """means: (n, C) features of photos; bags: (n, V) shares of captions that say a word, 0..1.

    The least cross-entropy between the shares and sigma(evidence + the word's log-odds in general).
    """
    torch.manual_seed(seed)
    known = ((bags > 0).sum(0) >= min_count).nonzero().squeeze(1)
    if not len(known):
        raise CaptionBotError(
            f"No word is said of {min_count} of the {len(bags)} photos; give more "
            "photos, or a lower --min-count."
        )
    centre, spread = means.mean(0), means.std(0) + 1e-6
    inputs, targets = (means - centre) / spread, bags[:, known]
    usual = torch.logit(targets.mean(0), 1e-4)
    layer = WordEvidence(means.shape[1], len(known), rank)
    nn.init.normal_(layer.words.weight, std=0.02)
    nn.init.zeros_(layer.reduce.bias)
    nn.init.zeros_(layer.words.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps_an_epoch = math.ceil(len(bags) / BATCH_SIZE)
    epochs = max(EPOCHS, math.ceil(LEAST_STEPS / steps_an_epoch))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (epochs * steps_an_epoch))
    for _ in range(epochs):
        for batch in torch.randperm(len(bags)).split(BATCH_SIZE):
            logits = layer.words(layer.reduce(F.dropout(inputs[batch], DROPOUT))) + usual
            loss = F.binary_cross_entropy_with_logits(logits, targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    whole = WordEvidence(means.shape[1], bags.shape[1], rank).requires_grad_(False)
    with torch.no_grad():  # the standardisation becomes a part of the layer
        whole.reduce.weight.copy_(layer.reduce.weight / spread)
        whole.reduce.bias.copy_(layer.reduce.bias - whole.reduce.weight @ centre)
        whole.words.weight.zero_()[known] = layer.words.weight
        whole.words.bias.zero_()[known] = layer.words.bias
    return whole


def score_weights(
    found: Sequence[Sequence[Hypothesis]],
    references: Sequence[Sequence[Words]],
    vocabulary: Vocabulary,
    options: SearchOptions,
) -> dict[float, float]:
    """CIDEr-D on val of the sentences that are best by each of `WEIGHTS`; their evidence has weight 1."""
    cider, scores = CiderD(references), {}
    for weight in WEIGHTS:
        best = []
        for hypotheses in found:
            ranks = [options.score(h.log_prob + weight * h.evidence, len(h.log_probs)) for h in hypotheses]
            best.append(vocabulary.decode(hypotheses[int(np.argmax(ranks))].token_ids))
        scores[weight] = float(np.mean(cider(best)))
    return scores


if __name__ == "__main__":
    sys.exit(main())
