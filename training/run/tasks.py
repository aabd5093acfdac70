"""What a run learns from, what it is asked, and how its answers are judged: photos, or text alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from captionbot.decoders import Decoder
from captionbot.decoders.attention import mean_annotation
from captionbot.images.load import Preprocessing
from captionbot.store.card import Card
from captionbot.text.vocabulary import load_vocabulary
from training.data.ready import open_ready
from training.run.choice import Choice, choose
from training.run.config import TrainingConfig
from training.run.distributed import World
from training.run.features import (
    BATCH,
    BlankFeatures,
    FeatureSource,
    PixelFeatures,
    cached_features,
    ready_features,
)
from training.run.splits import Split, with_pixels
from training.run.stages import CrossEntropy, SelfCritical, Stage, Teacher
from training.run.validation import Captions, Foreseen, Scores


@dataclass(frozen=True)
class Task:
    """The task of a run.

    features: of the images that are learnt from; stage: what a step asks of them.
    validate: what an encoder and a decoder are worth on val; choice: which epoch is the best by that.
    an_epoch: the numbers of the images of an epoch in the order in which it sees them.
    data: what is learnt from, in words.
    bad: what is wrong with photos that were left out, by name.
    samples: names of val photos to show.
    """

    features: FeatureSource
    stage: Stage
    validate: Callable[[nn.Module, Decoder], Scores]
    choice: Choice
    an_epoch: Callable[[np.random.Generator], np.ndarray]
    data: str
    bad: dict[str, str] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)


def text_task(config: TrainingConfig, card: Card, text: Split, val: Split, world: World) -> Task:
    """The decoder alone, on captions without photos."""
    vocabulary = load_vocabulary(card.vocabulary)
    features = BlankFeatures(int(card.decoder["feature_size"]), world.device)
    return Task(
        features,
        CrossEntropy(config, vocabulary, text.token_ids(vocabulary, 1, config.max_words)),
        Foreseen(config, vocabulary, val, features, world),
        choose(config, val),
        text.an_epoch,
        f"{Path(config.text).name}, {len(text)} captions",
    )


def photo_task(
    config: TrainingConfig, card: Card, encoder: nn.Module, train: Split, val: Split, world: World
) -> Task:
    """The captions of photos, or of images of which there are features alone."""
    vocabulary, preprocessing = load_vocabulary(card.vocabulary), Preprocessing.from_json(card.preprocessing)
    train, train_features = features_of(
        train, config, encoder, preprocessing, world, config.flips, config.hide_patches
    )
    val, val_features = features_of(val, config, encoder, preprocessing, world)
    stage: Stage
    if config.stage == "self-critical":
        stage = SelfCritical(config, vocabulary, train.captions)
    else:
        most = max(map(len, train.captions)) if config.num_samples else config.captions_per_image
        token_ids = train.token_ids(vocabulary, most, config.max_words)
        teachers = [Teacher.load(name, config, train, vocabulary, world) for name in config.teachers]
        stage = CrossEntropy(config, vocabulary, token_ids, teachers)
    return Task(
        train_features,
        stage,
        Captions(config, vocabulary, val, val_features, world),
        choose(config, val),
        train.an_epoch,
        f"{Path(config.data).name}, {len(train)} training {'images' if config.features else 'photos'}",
        train.bad | val.bad,
        [] if config.features else val.names[: config.sample_photos],
    )


def means_of(
    split: Split,
    config: TrainingConfig,
    encoder: nn.Module,
    preprocessing: Preprocessing,
    world: World,
) -> Tensor:
    """(n, C) mean features of the photos of a split that can be read, by a frozen encoder."""
    split, source = features_of(split, config, encoder, preprocessing, world)
    batches = np.array_split(np.arange(len(split)), -(-len(split) // BATCH))
    seen = (source(encoder, batch) for batch in batches)
    return torch.cat([mean_annotation(f.values, f.mask) for f in seen])


def features_of(
    split: Split,
    config: TrainingConfig,
    encoder: nn.Module,
    preprocessing: Preprocessing,
    world: World,
    flips: bool = False,
    hide_patches: float = 0.0,
) -> tuple[Split, FeatureSource]:
    """The split without photos that cannot be read, and the features of the others.

    They are ready-made ones, those that a frozen encoder gives, or made anew while the encoder learns.
    """
    cache = Path(config.cache)
    if config.features:
        images = list(zip(split.names, split.ids, strict=True))
        with world.main_first():
            return split, ready_features(
                open_ready(config.features), images, cache, world.device, config.hide
            )
    split, pixels = with_pixels(split, config, preprocessing, world)
    if config.train_encoder or not config.cache_features:
        return split, PixelFeatures(
            pixels, preprocessing, world.device, config.crop, config.jitter, hide_patches
        )
    with world.main_first():
        return split, cached_features(
            encoder, preprocessing, pixels, flips, cache, world.device, config.amp, config.hide, hide_patches
        )
