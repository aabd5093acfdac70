"""The stages of training: what a decoder is asked for in one step, and what its answer costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from captionbot.decoders import Decoder
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.search.beam import beam_search
from captionbot.search.options import SearchOptions
from captionbot.store import card as cards
from captionbot.store.registry import find_card
from captionbot.text.parts_of_speech import parts_of_speech
from captionbot.text.vocabulary import Vocabulary, load_vocabulary
from captionbot.types import Features
from training.metrics.overlap import CiderD, bleu_tally
from training.run.config import TrainingConfig
from training.run.distributed import World
from training.run.features import FeatureSource, autocast, cached_features
from training.run.losses import (
    STRUCTURED,
    Forced,
    Term,
    caption_loss,
    drop_words,
    self_critical_loss,
    soft_targets,
    structured_loss,
    teacher_force,
)
from training.run.splits import Split, Words, with_pixels


@dataclass(frozen=True)
class Batch:
    """What one step learns from: B images of the training split.

    images: (B,) their numbers in the split; mirrored: (B,) bool, which are seen mirrored.
    done: share of the run that lies behind, 0..1.
    seed: of what this step draws beside torch's own random numbers.
    """

    images: np.ndarray
    mirrored: np.ndarray
    done: float
    seed: int


@dataclass(frozen=True)
class Loss:
    """terms: to be added; figures: numbers for tensorboard by name."""

    terms: list[Term]
    figures: dict[str, float] = field(default_factory=dict)


class Stage(Protocol):
    """What a step asks of a decoder, and what its answer costs."""

    def __call__(self, decoder: Decoder, features: Features, batch: Batch) -> Loss: ...

    def counts(self, images: np.ndarray) -> list[int] | None:
        """How many numbers each term of the loss is the mean of, where the images of a step, in all its parts
        and processes, tell; else None."""


class CrossEntropy:
    """Predict the next word of the captions that people wrote; of a text alone where features are blank."""

    def __init__(
        self,
        config: TrainingConfig,
        vocabulary: Vocabulary,
        token_ids: Tensor,
        teachers: Sequence[Teacher] = (),
    ) -> None:
        self.config, self.vocabulary, self.token_ids, self.teachers = config, vocabulary, token_ids, teachers
        # there is nowhere else to look than at the one blank place
        self.doubly_stochastic = 0.0 if config.stage == "language-model" else config.doubly_stochastic

    def counts(self, images: np.ndarray) -> list[int]:
        token_ids = self.token_ids[images]
        words = token_ids[..., 1:] != Vocabulary.pad_id
        captions = token_ids.shape[0] * token_ids.shape[1]
        return [int(words.sum()), *[captions] * bool(self.doubly_stochastic)]

    def __call__(self, decoder: Decoder, features: Features, batch: Batch) -> Loss:
        config = self.config
        token_ids = self.token_ids[batch.images].to(features.values.device)
        inputs = drop_words(token_ids, config.word_dropout, self.vocabulary) if config.word_dropout else None
        own_words = config.scheduled_sampling * batch.done
        forced = teacher_force(decoder, features, token_ids, inputs=inputs, own_words=own_words)
        soft = None
        if self.teachers:
            with torch.no_grad():
                answers = [teacher.along(token_ids, batch) for teacher in self.teachers]
            soft = soft_targets(forced, answers)
        terms = caption_loss(
            forced, config.label_smoothing, self.doubly_stochastic, soft, config.distillation
        )
        return Loss(terms)


class SelfCritical:
    """Draw captions and make those likelier that are rewarded more than a baseline (arXiv 1612.00563)."""

    def __init__(
        self, config: TrainingConfig, vocabulary: Vocabulary, captions: Sequence[Sequence[Words]]
    ) -> None:
        self.config, self.vocabulary = config, vocabulary
        self.reward = Reward(captions, config.reward)

    def counts(self, images: np.ndarray) -> None:
        """Nobody knows how long samples will be."""

    def __call__(self, decoder: Decoder, features: Features, batch: Batch) -> Loss:
        config = self.config
        drawing = SearchOptions(
            sample=True,
            num_return=config.samples,
            temperature=config.temperature,
            max_length=config.max_words,
            seed=batch.seed,
        )
        samples = self._captions(decoder, features, drawing)
        rewards = self._rewards(samples, batch.images, features)
        baseline = None
        if config.baseline == "greedy":
            likeliest = SearchOptions(beam_size=1, max_length=config.max_words)
            greedy = [found[:1] for found in self._captions(decoder, features, likeliest)]
            baseline = self._rewards(greedy, batch.images, features).squeeze(1)
        token_ids = self._token_ids(samples).to(features.values.device)
        forced = teacher_force(decoder, features, token_ids)
        special = self.vocabulary.special_ids
        if config.objective in STRUCTURED:
            term = structured_loss(config.objective, forced, rewards, config.temperature, special)
        else:
            best = config.objective == "best"
            term = self_critical_loss(forced, rewards, config.temperature, baseline, special, best)
        return Loss([term], {"reward": rewards.mean().item()})

    def _captions(
        self, decoder: Decoder, features: Features, options: SearchOptions
    ) -> list[list[tuple[int, ...]]]:
        """The ids of the captions that a search finds of each image."""
        detached = dataclasses.replace(features, values=features.values.detach())
        # the loss must not find weights that inference mode has cast
        with autocast(features.values.device, self.config.amp, cache=False):
            found = search(decoder.eval(), detached, self.vocabulary, options)
        decoder.train()
        return [[h.token_ids for h in hypotheses] for hypotheses in found]

    def _rewards(
        self, captions: list[list[tuple[int, ...]]], images: np.ndarray, features: Features
    ) -> Tensor:
        """(B, K) rewards of K captions of each image."""
        words = [self.vocabulary.decode(ids) for found in captions for ids in found]
        rewards = self.reward(words, np.repeat(images, len(captions[0])).tolist())
        return torch.as_tensor(rewards, dtype=torch.float32).view(len(images), -1).to(features.values.device)

    def _token_ids(self, captions: list[list[tuple[int, ...]]]) -> Tensor:
        """(B, K, L) ids as `teacher_force` takes them; samples of max_words were cut, and have no end."""
        shape = (len(captions), len(captions[0]), self.config.max_words + 2)
        token_ids = torch.full(shape, self.vocabulary.pad_id)
        for row, found in zip(token_ids, captions, strict=True):
            for line, ids in zip(row, found, strict=True):
                end = [self.vocabulary.eos_id] * (len(ids) < self.config.max_words)
                ids = (self.vocabulary.bos_id, *ids, *end)
                line[: len(ids)] = torch.tensor(ids)
        return token_ids


class Reward:
    """The weighed sum of a caption's CIDEr-D and its BLEU-4 against the captions of its image, less what
    words that it repeats cost.

    The end counts as a word, or captions learn to break off ("a dog runs through a").
    """

    def __init__(self, references: Sequence[Sequence[Words]], weights: dict[str, float]) -> None:
        self.references = [[[*words, "<eos>"] for words in captions] for captions in references]
        self.weights = weights
        self.cider = CiderD(self.references)

    def __call__(self, captions: Sequence[Words], images: Sequence[int]) -> np.ndarray:
        """(n,) rewards; images: the number of each caption's image."""
        ended = [[*words, "<eos>"] for words in captions]
        total = np.zeros(len(ended))
        if weight := self.weights.get("cider"):
            total += weight * self.cider(ended, images)
        if weight := self.weights.get("bleu_4"):
            total += weight * sentence_bleu(ended, [self.references[i] for i in images])
        if weight := self.weights.get("repeats"):
            total -= weight * np.array([repeats(words) for words in captions])
        return total


def repeats(words: Words) -> int:
    """How many nouns, verbs and adjectives of a caption were said before in it."""
    parts = parts_of_speech(words)
    told = [word for word, part in zip(words, parts, strict=True) if part in ("noun", "verb", "adjective")]
    return len(told) - len(set(told))


def sentence_bleu(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """(n,) BLEU-4 of single sentences, one added to the counts from bigrams on (Lin and Och, 2004)."""
    tally = bleu_tally(hypotheses, references)
    counts = tally.counts.copy()
    counts[:, [1, 2, 3, 5, 6, 7]] += 1  # correct and all n-grams, n = 2, 3, 4
    return tally.combine(counts)[:, 3]


class Teacher:
    """A captioner that another one learns from, with its own encoder and view of the photos."""

    def __init__(self, decoder: Decoder, features: FeatureSource, encoder: torch.nn.Module, amp: str) -> None:
        self.decoder, self.features, self.encoder, self.amp = decoder, features, encoder, amp

    @classmethod
    def load(
        cls, name: str, config: TrainingConfig, train: Split, vocabulary: Vocabulary, world: World
    ) -> Teacher:
        """The captioner of a name, its features of the training photos cached."""
        card, encoder, decoder = cards.load(find_card(name))
        if load_vocabulary(card.vocabulary).tokens != vocabulary.tokens:
            raise CaptionBotError(
                f"The teacher {name} has another vocabulary than the student; train both on the same "
                "captions with the same --vocabulary, --min-count and --max-size."
            )
        preprocessing = Preprocessing.from_json(card.preprocessing)
        _, pixels = with_pixels(train, config, preprocessing, world)
        with world.main_first():
            features = cached_features(
                encoder, preprocessing, pixels, config.flips, Path(config.cache), world.device, config.amp
            )
        return cls(decoder.to(world.device), features, encoder, config.amp)

    def along(self, token_ids: Tensor, batch: Batch) -> Forced:
        """Its answers along captions. It sees whole photos, even where the student sees a part."""
        return teacher_force(
            self.decoder, self.features(self.encoder, batch.images, batch.mirrored), token_ids
        )


def search(decoder: Decoder, features: Features, vocabulary: Vocabulary, options: SearchOptions) -> Any:
    """The hypotheses that a search finds of each image, best first."""
    v = vocabulary
    return beam_search(
        decoder, features, bos_id=v.bos_id, eos_id=v.eos_id, options=options, banned_ids=v.special_ids,
        naming=v.naming,
    ).hypotheses  # fmt: skip
