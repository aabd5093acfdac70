"""What a run learns from and is validated on: photos and captions of a split, or captions alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.text.tokenizer import tokenize
from captionbot.text.vocabulary import Vocabulary
from training.data import Example, ImageStore
from training.data.flickr import read_text_captions
from training.data.formats import load_dataset
from training.data.mixture import an_epoch, images_of
from training.evaluation.predictions import captions_of, read_predictions
from training.run.config import TrainingConfig
from training.run.distributed import World
from training.run.features import cached_pixels

MOST_BY_HEART = 1000  # training images that a run with --limit is validated on

Words = list[str]
T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """Images of a data set and their captions as words.

    taught: a caption of each image by a teacher, or nothing.
    ids: what files of features and results call each image by, where the data set says so.
    sources: which data set of a mixture each image is of, or nothing; repeats: how often an epoch sees it.
    bad: what is wrong with photos that were left out, by name.
    """

    names: list[str]
    captions: list[list[Words]]
    taught: list[Words] = dataclasses.field(default_factory=list)
    bad: dict[str, str] = dataclasses.field(default_factory=dict)
    sources: list[str] = dataclasses.field(default_factory=list)
    repeats: list[float] = dataclasses.field(default_factory=list)
    ids: list[int | str | None] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, examples: Sequence[Example], sentences: str = "") -> Split:
        """sentences: file of a teacher's captions of the examples, "" for none."""
        taught = captions_of(examples, read_predictions(sentences)).values() if sentences else ()
        return cls(
            [e.name for e in examples],
            [[tokenize(c) for c in e.captions] for e in examples],
            [tokenize(caption) for caption in taught],
            sources=[e.source for e in examples],
            repeats=[e.repeat for e in examples],
            ids=[e.image_id for e in examples],
        )

    @classmethod
    def of_text(cls, file: str, limit: int = 0) -> Split:
        """Captions without photos, as if each had one of its own."""
        captions = read_text_captions(file)[: limit or None]
        return cls([""] * len(captions), [[tokenize(caption)] for caption in captions])

    def __getitem__(self, images: Sequence[int]) -> Split:
        """Some of its images."""

        def chosen(values: list[T]) -> list[T]:
            return [values[i] for i in images if values]

        return Split(
            chosen(self.names),
            chosen(self.captions),
            chosen(self.taught),
            sources=chosen(self.sources),
            repeats=chosen(self.repeats),
            ids=chosen(self.ids),
        )

    def an_epoch(self, rng: np.random.Generator) -> np.ndarray:
        """The numbers of the images of an epoch, each as often as it is seen, shuffled."""
        return an_epoch(self.repeats or [1] * len(self), rng)

    def by_source(self) -> dict[str, list[int]]:
        """The images of each data set of a mixture."""
        found: dict[str, list[int]] = {}
        for image, source in enumerate(self.sources or [""] * len(self)):
            found.setdefault(source, []).append(image)
        return found

    def token_ids(self, vocabulary: Vocabulary, captions: int, max_words: int) -> Tensor:
        """(n, captions, max_words + 2) ids: start, words, end, padding; a cut caption has no end.

        A teacher's caption comes before those of people.
        """
        token_ids = torch.full((len(self), captions, max_words + 2), vocabulary.pad_id)
        for i, image in enumerate(self.captions):
            image = [*self.taught[i : i + 1], *image]
            for j, words in enumerate(image[:captions]):
                ids = vocabulary.encode(words)
                ids = [vocabulary.bos_id, *ids[:max_words], *[vocabulary.eos_id] * (len(ids) <= max_words)]
                token_ids[i, j, : len(ids)] = torch.tensor(ids)
        return token_ids


def read_splits(config: TrainingConfig) -> tuple[Split, Split]:
    """The training and the val split of a run's data set."""
    examples = [e for e in load_dataset(config.data, config.format) if e.captions]
    train = [e for e in examples if e.split == "train"][: config.limit or None]
    train = first_captions(train, config.num_samples) if config.num_samples else train
    val = train[:MOST_BY_HEART] if config.limit else [e for e in examples if e.split == "val"]
    for name, found in (("train", train), ("val", val)):
        if not found:
            raise CaptionBotError(
                f"The data set at {config.data} has no captions in its split {name}; a run needs both "
                "train and val (with --limit it is validated on train)."
            )
    return Split.of(train, config.sentences), Split.of(val)


def first_captions(examples: Sequence[Example], count: int) -> list[Example]:
    """So many captions of all that there are: one of each image, then a second one of each, and so on."""
    most = max((len(e.captions) for e in examples), default=0)
    order = [(i, j) for j in range(most) for i, e in enumerate(examples) if j < len(e.captions)]
    kept = Counter(i for i, _ in order[:count])
    return [dataclasses.replace(e, captions=e.captions[: kept[i]]) for i, e in enumerate(examples) if kept[i]]


def photos_of(config: TrainingConfig) -> ImageStore:
    return images_of(config.data, config.images)


def with_pixels(
    split: Split, config: TrainingConfig, preprocessing: Preprocessing, world: World
) -> tuple[Split, np.ndarray]:
    """The split without photos that cannot be read, and the pixels of the others, (n, H, W, 3) uint8."""
    skip = config.on_bad_image == "skip"
    with world.main_first():
        pixels, bad = cached_pixels(photos_of(config), split.names, preprocessing, Path(config.cache), skip)
    if not bad:
        return split, pixels
    good = [i for i, name in enumerate(split.names) if name not in bad]
    return dataclasses.replace(split[good], bad=bad), pixels
