"""What a run learns from, what it is asked, and how its answers are judged: photos, or text alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from captionbot.decoders import Decoder
from captionbot.images.load import Preprocessing
from captionbot.store.card import Card
from captionbot.text.vocabulary import load_vocabulary
from training.run.choice import Choice, choose
from training.run.config import TrainingConfig
from training.run.distributed import World
from training.run.features import BlankFeatures, FeatureSource, PixelFeatures, cached_features
from training.run.splits import Split, with_pixels
from training.run.stages import CrossEntropy, SelfCritical, Stage, Teacher
from training.run.validation import Captions, Foreseen, Scores


@dataclass(frozen=True)
class Task:
    """The task of a run.

    features: of the images that are learnt from; stage: what a step asks of them.
    validate: what an encoder and a decoder are worth on val; choice: which epoch is the best by that.
    order: the numbers of the images that an epoch sees.
    data: what is learnt from, in words.
    bad: what is wrong with photos that were left out, by name.
    samples: names of val photos to show.
    """

    features: FeatureSource
    stage: Stage
    validate: Callable[[nn.Module, Decoder], Scores]
    choice: Choice
    order: np.ndarray
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
        text.order,
        f"{Path(config.text).name}, {len(text)} captions",
    )


def photo_task(
    config: TrainingConfig, card: Card, encoder: nn.Module, train: Split, val: Split, world: World
) -> Task:
    """The captions of photos, which are seen through an encoder, or the cache of a frozen one."""
    vocabulary, preprocessing = load_vocabulary(card.vocabulary), Preprocessing.from_json(card.preprocessing)
    train, train_pixels = with_pixels(train, config, preprocessing, world)
    val, val_pixels = with_pixels(val, config, preprocessing, world)

    def features(pixels: np.ndarray, flips: bool) -> FeatureSource:
        if config.train_encoder or not config.cache_features:
            return PixelFeatures(pixels, preprocessing, world.device, config.crop, config.jitter)
        cache = Path(config.cache)
        with world.main_first():
            return cached_features(
                encoder, preprocessing, pixels, flips, cache, world.device, config.amp, config.hide
            )

    train_features = features(train_pixels, config.flips)
    validate = Captions(config, vocabulary, val, features(val_pixels, False), world)
    stage: Stage
    if config.stage == "self-critical":
        stage = SelfCritical(config, vocabulary, train.captions)
    else:
        token_ids = train.token_ids(vocabulary, config.captions_per_image, config.max_words)
        teachers = [Teacher.load(name, config, train, vocabulary, world) for name in config.teachers]
        stage = CrossEntropy(config, vocabulary, token_ids, teachers)
    return Task(
        train_features,
        stage,
        validate,
        choose(config, val),
        train.order,
        f"{Path(config.data).name}, {len(train)} training photos",
        train.bad | val.bad,
        val.names[: config.sample_photos],
    )
