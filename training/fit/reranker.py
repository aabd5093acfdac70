"""Fit a captioner's word evidence: `python -m training.evidence RUN --out DIR`.

Which words and pairs of words do people say of a photo? Those that they said of photos like it, by a kernel
ridge regression on the encoder's mean features (Hastie et al., The Elements of Statistical Learning, 5.8).
That would be a table of all training photos, so a small network learns its answers, to mixtures of photos
(distillation, arXiv 1503.02531; mixtures as of arXiv 1710.09412). Added to it is half of what a linear
detector of words says, whose errors are others. The weight of both beside the decoder's
log-probabilities is the one with the best CIDEr-D on val, among a few, or a given one. The captioner in DIR
is that of RUN, with it, or without where that helps nothing. Train RUN further, and it has to be fitted
again.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from captionbot.cli.commands import Parser, command
from captionbot.decoders.attention import mean_annotation
from captionbot.decoders.evidence import ALONE, WordEvidence
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.search.options import SearchOptions
from captionbot.store import card as cards
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import Vocabulary, load_vocabulary
from captionbot.types import Features, Hypothesis
from training.metrics import CiderD
from training.run.captioners import load_to_train
from training.run.checkpoints import prepare_folder, written
from training.run.config import ABOUT, TrainingConfig, check_least
from training.run.distributed import World, device_of
from training.run.features import BATCH, CachedFeatures, autocast, cached_features
from training.run.splits import Split, read_splits, with_pixels
from training.run.stages import search

MOST_PHRASES = 8_000  # or memory would not hold what is said of 100,000 photos
WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
WEIGHTS_BESIDE = (0.0, 0.25, 0.5, 1.0)
FITTED = ("hidden", "rank", "mixtures", "epochs", "seed")  # of the command, what `fit` takes
# the regression: a share of the kernel's diagonal, of all words' odds, and the photos that it compares with
RIDGE, SOFTEN, CENTRES = 0.1, 0.02, 6_000
# the linear detector, and its share of the evidence
LINEAR, LINEAR_SHARE = 64, 0.5
DETECTOR_EPOCHS, LEAST_STEPS, DETECTOR_BATCH = 16, 960, 100
DETECTOR_RATE, DETECTOR_DECAY, DROPOUT = 2e-3, 0.1, 0.3
# the network that learns from the regression
MIXTURES, LEAST_MIXTURES, MOST_MIXTURES = 20, 4_000, 120_000  # a photo, in all
EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 12, 256, 2e-3, 1e-3


@command
def main(arguments: Sequence[str] | None = None) -> int:
    defaults = TrainingConfig()
    parser = Parser("python -m training.evidence", description="Fit a captioner's word evidence.")
    parser.add_argument("captioner", help="folder of a run, name or card of a captioner")
    parser.add_argument("--out", type=Path, required=True, help="folder of the captioner with word evidence")
    parser.add_argument(
        "--data", default=defaults.data, help="data set to learn from and choose the weight on"
    )
    parser.add_argument("--images", default=defaults.images, help="its photos, where they lie apart")
    parser.add_argument("--limit", type=int, default=0, help="use only the first so many photos, for val too")
    parser.add_argument("--cache", default=defaults.cache, help="folder for decoded photos and features")
    parser.add_argument("--no-mirror", action="store_true", help="learn from no mirror images")
    parser.add_argument(
        "--hidden",
        type=int,
        default=512,
        help="numbers that a photo's feature becomes first; 0 for the linear detector of words alone",
    )
    parser.add_argument("--rank", type=int, default=192, help="numbers that these are reduced to")
    parser.add_argument(
        "--mixtures",
        type=int,
        default=0,
        help="of photos, that the network learns from (default: 20 a photo, 4,000 to 120,000)",
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of them")
    parser.add_argument("--min-count", type=int, default=15, help="photos that a phrase has to be said of")
    parser.add_argument(
        "--beside",
        metavar="CAPTIONER",
        help="whose word evidence to add; the channels that it sees are the first of this captioner's",
    )
    parser.add_argument(
        "--weights",
        type=float,
        nargs="+",
        metavar="W",
        help="of the evidence that is fitted and of that --beside, rather than the best on val; "
        "with 0 for the first nothing is fitted",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    config = dataclasses.replace(
        defaults, data=given.data, images=given.images, limit=given.limit, cache=given.cache
    )
    least = {"hidden": 0, "rank": 1, "mixtures": 0, "epochs": 1, "min_count": 1, "seed": 0}
    check_least(given, least, {"seed": ABOUT["seed"].high or 0})
    if given.weights and (len(given.weights) != 1 + bool(given.beside) or min(given.weights) < 0):
        raise CaptionBotError(
            f"--weights are {' '.join(f'{w:g}' for w in given.weights)}; give one of 0 or more, and with "
            "--beside a second."
        )
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

    def encoded(split: Split, flips: bool) -> tuple[Split, CachedFeatures]:
        split, pixels = with_pixels(split, config, preprocessing, world)
        cache = Path(config.cache)
        return split, cached_features(encoder, preprocessing, pixels, flips, cache, device, config.amp)

    def batches(features: CachedFeatures, *, mirrored: bool = False) -> Iterator[Features]:
        for batch in np.array_split(np.arange(len(features)), math.ceil(len(features) / BATCH)):
            yield features(encoder, batch, np.full(len(batch), mirrored))

    def means(features: Iterator[Features]) -> Tensor:
        return torch.cat([mean_annotation(f.values.float(), f.mask).cpu() for f in features])

    def learnt(train: Split) -> WordEvidence:
        flips = bool(given.hidden) and not given.no_mirror  # the linear detector learns from photos alone
        with torch.inference_mode(), autocast(device, config.amp):
            train, cached = encoded(train, flips)
            seen = torch.stack([means(batches(cached, mirrored=side)) for side in (False, True)[: 1 + flips]])
        phrases, shares = bags_of_phrases(train, vocabulary, given.min_count)
        return fit(seen.clone(), phrases, shares, **{name: getattr(given, name) for name in FITTED})

    train, val = read_splits(config)
    tried = [tuple(given.weights)] if given.weights else _combinations(bool(given.beside))
    layers: list[WordEvidence | None] = [learnt(train) if any(weights[0] for weights in tried) else None]
    settings: dict[str, Any] = {name: getattr(given, name) for name in ("min_count", *FITTED) if layers[0]}
    if given.beside:
        layers.append(_evidence_of(given.beside, vocabulary))
    options = SearchOptions(**card.search)
    with torch.inference_mode(), autocast(device, config.amp):
        val, cached = encoded(val, False)
        found = [image for f in batches(cached) for image in search(decoder, f, vocabulary, options)]
        told = [evidence_of(layer, means(batches(cached)), found) for layer in layers]
    scores, chosen = score_weights(found, told, val, vocabulary, options, tried)
    weighed = [scaled(layer, w) for layer, w in zip(layers, chosen, strict=True) if layer and w]
    decoder.evidence = reduce(both, weighed).to(device) if weighed else None
    settings |= {
        "weight": chosen[0],
        "CIDEr on val": {f"{weight:g}": score for weight, score in scores.items()},
    }
    if given.beside:
        settings |= {"beside": given.beside, "weight beside": chosen[1]}
    training = card.training | {"evidence": settings}
    card = dataclasses.replace(
        card, evidence=decoder.evidence.sizes if decoder.evidence else {}, training=training
    )
    with written("The captioner", given.out, "run the command again"):
        return cards.save(given.out, card, encoder, decoder), scores


def bags_of_phrases(split: Split, vocabulary: Vocabulary, min_count: int) -> tuple[Tensor, Tensor]:
    """The N phrases that are said of `min_count` photos or more, (N, 2) as `WordEvidence` has them, but at
    most the `MOST_PHRASES` commonest, and (n, N) the share of an image's captions that say each."""
    said: list[Counter[tuple[int, int]]] = []
    for captions in split.captions:
        said.append(Counter())
        for ids in map(vocabulary.encode, captions):
            said[-1].update({(word, ALONE) for word in ids} | set(pairwise(ids)))
    special = set(vocabulary.special_ids)
    counts = Counter(phrase for phrases in said for phrase in phrases if special.isdisjoint(phrase))
    known = sorted(phrase for phrase, count in counts.most_common(MOST_PHRASES) if count >= min_count)
    if not known:
        raise CaptionBotError(
            f"No word is said of {min_count} of the {len(said)} photos; give more photos, or a lower "
            "--min-count."
        )
    shares, columns = torch.zeros(len(said), len(known)), {phrase: i for i, phrase in enumerate(known)}
    for row, phrases, captions in zip(shares, said, split.captions, strict=True):
        for phrase in phrases.keys() & columns.keys():
            row[columns[phrase]] = phrases[phrase] / len(captions)
    return torch.tensor(known, dtype=torch.int32), shares


def fit(
    seen: Tensor,
    phrases: Tensor,
    shares: Tensor,
    *,
    hidden: int,
    rank: int,
    seed: int,
    mixtures: int = 0,
    epochs: int = EPOCHS,
) -> WordEvidence:
    """seen: (1 or 2, n, C) features of photos and their mirror images; phrases: (N, 2); shares: (n, N), 0..1.

    hidden: 0 for the linear detector of words alone.
    mixtures: that the network learns from; 0 for `MIXTURES` a photo, within limits.
    """
    torch.manual_seed(seed)
    centre, spread = seen[0].mean(0), seen[0].std(0) + 1e-6
    seen = (seen - centre) / spread
    words = phrases[:, 1] == ALONE
    layer = detect(seen[0], shares[:, words])
    if hidden:
        mixtures = mixtures or max(LEAST_MIXTURES, min(MIXTURES * len(shares), MOST_MIXTURES))
        layer = joined(layer, imitate(seen, shares, hidden, rank, mixtures, epochs), words)
    layer.phrases.copy_(phrases if hidden else phrases[words])
    with torch.no_grad():  # the standardisation becomes a part of the first layer
        first = layer.reduce if layer.widen is None else layer.widen
        first.weight.div_(spread)
        first.bias.sub_(first.weight @ centre)
    return layer.requires_grad_(False)


def imitate(seen: Tensor, shares: Tensor, hidden: int, rank: int, mixtures: int, epochs: int) -> WordEvidence:
    """A network that learns the regression's answers to so many mixtures, by least squares.

    A phrase counts by the root of how often it is said.
    """
    answers = regression(seen[0], shares)
    photos = mixed(seen, mixtures)
    targets = torch.cat([answers(part).half() for part in tqdm(photos.split(500), "mixtures", mininterval=1)])
    network = WordEvidence(seen.shape[-1], shares.shape[1], rank, hidden=hidden)
    weights = shares.mean(0).sqrt()
    weights = weights / weights.mean()

    def loss(batch: Tensor) -> Tensor:
        error = network.of_means(photos[batch]) - targets[batch].float()
        return (error.square() * weights).mean()

    steps = math.ceil(mixtures / BATCH_SIZE) * epochs
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    descend(loss, mixtures, BATCH_SIZE, epochs, optimizer, schedule)
    return network


@torch.no_grad()
def joined(detector: WordEvidence, network: WordEvidence, words: Tensor) -> WordEvidence:
    """The network and `LINEAR_SHARE` of the detector as one. words: (N,) bool, what the detector knows."""
    assert network.widen is not None
    hidden, size = network.widen.weight.shape
    whole = WordEvidence(size, len(words), LINEAR + len(network.reduce.bias), LINEAR, hidden)
    assert whole.widen is not None
    whole.widen.weight.copy_(torch.cat([detector.reduce.weight, network.widen.weight]))
    whole.widen.bias.copy_(torch.cat([detector.reduce.bias, network.widen.bias]))
    whole.reduce.weight.copy_(torch.block_diag(torch.eye(LINEAR), network.reduce.weight))
    whole.reduce.bias.copy_(torch.cat([torch.zeros(LINEAR), network.reduce.bias]))
    whole.say.weight.zero_()[:, LINEAR:] = network.say.weight
    whole.say.weight[words, :LINEAR] = LINEAR_SHARE * detector.say.weight
    whole.say.bias.copy_(network.say.bias)
    whole.say.bias[words] += LINEAR_SHARE * detector.say.bias
    return whole


def detect(seen: Tensor, shares: Tensor) -> WordEvidence:
    """A linear layer with the least cross-entropy between the shares of words and
    sigma(evidence + the word's log-odds in general)."""
    usual = torch.logit(shares.mean(0), 1e-4)
    layer = WordEvidence(seen.shape[1], shares.shape[1], LINEAR)
    nn.init.normal_(layer.say.weight, std=0.02)
    nn.init.zeros_(layer.reduce.bias)
    nn.init.zeros_(layer.say.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), DETECTOR_RATE, weight_decay=DETECTOR_DECAY)
    steps_an_epoch = math.ceil(len(seen) / DETECTOR_BATCH)
    epochs = max(DETECTOR_EPOCHS, math.ceil(LEAST_STEPS / steps_an_epoch))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (epochs * steps_an_epoch))

    def loss(batch: Tensor) -> Tensor:
        logits = layer.of_means(F.dropout(seen[batch], DROPOUT)) + usual
        return F.binary_cross_entropy_with_logits(logits, shares[batch])

    descend(loss, len(seen), DETECTOR_BATCH, epochs, optimizer, schedule)
    return layer


def descend(
    loss: Callable[[Tensor], Tensor],
    count: int,
    batch_size: int,
    epochs: int,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """loss: of a batch, the numbers of some of `count` photos or mixtures."""
    for _ in tqdm(range(epochs), "fitting", unit="epoch", mininterval=1):
        for batch in torch.randperm(count).split(batch_size):
            optimizer.zero_grad()
            loss(batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def regression(seen: Tensor, shares: Tensor) -> Callable[[Tensor], Tensor]:
    """Kernel ridge regression of phrases' shares on standardised features, as log-odds beyond the usual.

    The kernel is a Gaussian as wide as photos lie apart, around at most `CENTRES` photos (for more it is
    Nystroem's approximation).
    """
    centres = seen[torch.randperm(len(seen))[:CENTRES]].double()
    width = torch.cdist(centres[:1000], centres).square().median()
    usual = shares.mean(0)

    def kernel(features: Tensor) -> Tensor:
        return torch.cdist(features.to(centres), centres).square().div(-width).exp()

    def log_odds(share: Tensor) -> Tensor:
        return torch.log((share + SOFTEN) / (1 - share + SOFTEN))

    between = kernel(centres)
    products = torch.zeros_like(between)
    sides = products.new_zeros(len(centres), shares.shape[1])
    for photos, said in zip(seen.split(2000), (shares - usual).split(2000), strict=True):
        near = kernel(photos)
        products.addmm_(near.T, near)
        sides.addmm_(near.T, said.double())
    products.add_(between, alpha=RIDGE).diagonal().add_(1e-8 * len(seen))
    weights, centres = torch.linalg.solve(products, sides).float(), centres.float()
    return lambda features: log_odds((usual + kernel(features) @ weights).clamp(0, 1)) - log_odds(usual)


def mixed(seen: Tensor, number: int) -> Tensor:
    """(1 or 2, n, C) -> (number, C): two photos or mirror images each, by halves all numbers in one
    proportion, or each number from one of the two."""
    sides, photos, size = seen.shape
    one, other = (seen[torch.randint(0, sides, (number,)), torch.randint(0, photos, (number,))] for _ in "ab")
    share = torch.rand(number, 1)
    blended = torch.rand(number, 1) < 0.5
    return torch.where(
        blended, one.lerp(other, share), torch.where(torch.rand(number, size) < share, one, other)
    )


def evidence_of(
    layer: WordEvidence | None, means: Tensor, found: Sequence[Sequence[Hypothesis]]
) -> list[np.ndarray]:
    """What a layer says for each image's sentences, (K,) each. means: (n, C), it may know the first alone."""
    if layer is None:
        return [np.zeros(len(hypotheses)) for hypotheses in found]
    values = layer.of_means(means[:, : channels(layer)])
    return [
        np.array([float(row[layer.said(h.token_ids)].sum()) for h in hypotheses])
        for row, hypotheses in zip(values, found, strict=True)
    ]


def score_weights(
    found: Sequence[Sequence[Hypothesis]],
    told: Sequence[Sequence[np.ndarray]],
    val: Split,
    vocabulary: Vocabulary,
    options: SearchOptions,
    tried: Sequence[tuple[float, ...]],
) -> tuple[dict[float, float], tuple[float, ...]]:
    """CIDEr-D on val by the first layer's weight, with the best of the second one's, and the best weights.

    Of a mixture it is the mean over the data sets, which are scored apart.

    told: for one layer of word evidence or two, what it says for each image's sentences.
    tried: weights of the layers.
    """
    sources = val.by_source().values()
    scores: dict[float, float] = {}
    ciders = [CiderD([val.captions[i] for i in images]) for images in sources]
    chosen: tuple[float, ...] = ()
    for weights in tried:
        best = []
        for hypotheses, *evidence in zip(found, *told, strict=True):
            sums = sum(weight * values for weight, values in zip(weights, evidence, strict=True))
            ranks = [
                options.score(h.log_prob + float(more), len(h.log_probs))
                for h, more in zip(hypotheses, sums, strict=True)  # type: ignore[arg-type]
            ]
            best.append(vocabulary.decode(hypotheses[int(np.argmax(ranks))].token_ids))
        means = [np.mean(c([best[i] for i in images])) for c, images in zip(ciders, sources, strict=True)]
        score = float(np.mean(means))
        if score > max(scores.values(), default=-math.inf):
            chosen = weights
        scores[weights[0]] = max(score, scores.get(weights[0], -math.inf))
    return scores, chosen


def _combinations(beside: bool) -> list[tuple[float, ...]]:
    """The weights that are tried on val, of one layer, or of one and another beside it."""
    return [*product(WEIGHTS, *[WEIGHTS_BESIDE] * beside)]


def _evidence_of(captioner: str, vocabulary: Vocabulary) -> WordEvidence:
    """Another captioner's word evidence, its phrases by this one's ids."""
    card, _, decoder = cards.load(find_card(captioner))
    if decoder.evidence is None:
        raise CaptionBotError(f"{captioner} has no word evidence; give a captioner that has.")
    ids = torch.tensor(vocabulary.encode(load_vocabulary(card.vocabulary).tokens), dtype=torch.int32)
    phrases = decoder.evidence.phrases
    phrases.copy_(torch.where(phrases == ALONE, phrases, ids[phrases.clamp(min=0).long()]))
    return decoder.evidence.requires_grad_(False)


def channels(layer: WordEvidence) -> int:
    """How many numbers of a photo it sees."""
    return (layer.reduce if layer.widen is None else layer.widen).in_features


@torch.no_grad()
def scaled(layer: WordEvidence, weight: float) -> WordEvidence:
    for tensor in layer.say.parameters():
        tensor.mul_(weight)
    return layer


@torch.no_grad()
def both(one: WordEvidence, other: WordEvidence) -> WordEvidence:
    """Their sum as one layer; one of them may see the first of the other's channels alone."""
    parts = [_in_three(layer) for layer in (one, other)]
    known = {tuple(phrase): None for layer in (one, other) for phrase in layer.phrases.tolist()}
    numbers = {phrase: number for number, phrase in enumerate(known)}
    linear, hidden = (sum(part[k].shape[0] for part in parts) for k in (0, 2))
    rank, size = sum(part[4].shape[0] for part in parts), max(map(channels, (one, other)))
    whole = WordEvidence(size, len(numbers), rank, linear, hidden)
    assert whole.widen is not None
    for tensor in whole.parameters():
        tensor.zero_()
    whole.phrases.copy_(torch.tensor(list(numbers), dtype=torch.int32))
    at = [0, linear, 0]  # rows of what stays linear, of what is hidden, and of the rank
    for layer, (weight, bias, hidden_weight, hidden_bias, reduce_weight) in zip(
        (one, other), parts, strict=True
    ):
        first, second, third = (
            slice(start, start + length)
            for start, length in zip(at, (len(bias), len(hidden_bias), len(reduce_weight)), strict=True)
        )
        whole.widen.weight[first, : weight.shape[1]], whole.widen.bias[first] = weight, bias
        whole.widen.weight[second, : weight.shape[1]], whole.widen.bias[second] = hidden_weight, hidden_bias
        whole.reduce.weight[third, first] = reduce_weight[:, : len(bias)]
        whole.reduce.weight[third, second] = reduce_weight[:, len(bias) :]
        if layer.widen is not None:
            whole.reduce.bias[third] = layer.reduce.bias
        rows = torch.tensor([numbers[tuple(phrase)] for phrase in layer.phrases.tolist()])
        whole.say.weight[rows, third] = layer.say.weight
        whole.say.bias[rows] += layer.say.bias
        at = [first.stop, second.stop, third.stop]
    return whole.requires_grad_(False)


def _in_three(layer: WordEvidence) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Weight and bias of what stays linear and of what is hidden, and the weight that reduces both."""
    if layer.widen is None:
        weight, bias = layer.reduce.weight, layer.reduce.bias
        return weight, bias, weight[:0], bias[:0], torch.eye(len(bias))
    (weight, hidden_weight), (bias, hidden_bias) = (
        tensor.split([layer.linear, len(tensor) - layer.linear]) for tensor in layer.widen.parameters()
    )
    return weight, bias, hidden_weight, hidden_bias, layer.reduce.weight
