"""What a captioner is worth on the val split: how well it foresees people's captions, scores of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from captionbot.decoders import Decoder
from captionbot.search.options import SearchOptions
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features
from training.metrics import CiderD, bleu
from training.run.config import TrainingConfig
from training.run.distributed import World
from training.run.features import FeatureSource, autocast
from training.run.losses import teacher_force
from training.run.splits import Split
from training.run.stages import search

BATCH = 50

Scores = dict[str, float]


class Captions:
    """CIDEr-D and BLEU-4 of the captions that a beam search finds, and the loss and perplexity of people's.

    Of a mixture those of each data set, which are scored apart, and their means before them.
    """

    def __init__(
        self,
        config: TrainingConfig,
        vocabulary: Vocabulary,
        split: Split,
        features: FeatureSource,
        world: World,
    ) -> None:
        self.config, self.vocabulary, self.split = config, vocabulary, split
        self.features, self.world = features, world
        self.foreseen = Foreseen(config, vocabulary, split, features, world)
        self.images = split.by_source()
        self.ciders = {
            source: CiderD([split.captions[i] for i in images]) for source, images in self.images.items()
        }

    def __call__(self, encoder: nn.Module, decoder: Decoder) -> Scores:
        config = self.config
        options = SearchOptions(
            beam_size=config.beam_size, length_penalty=config.length_penalty, max_length=config.max_words
        )
        captions, losses = [], []
        mine = self.world.share(np.arange(len(self.split)))
        for start in range(0, len(mine), BATCH):
            images = mine[start : start + BATCH]
            with torch.inference_mode(), autocast(self.world.device, config.amp):
                features = self.features(encoder, images)
                found = search(decoder, features, self.vocabulary, options)
            captions += [self.vocabulary.decode(hypotheses[0].token_ids) for hypotheses in found]
            losses.append(self.foreseen.nats(decoder, features, images))
        captions = self.world.gather(captions)
        references = self.split.captions
        said = {source: [captions[i] for i in images] for source, images in self.images.items()}
        ciders = {source: float(np.mean(self.ciders[source](said[source]))) for source in said}
        scores = {**self.foreseen.scores(losses), "CIDEr": float(np.mean(list(ciders.values())))}
        if config.limit:  # how many of the training captions it says word for word
            exact = [c == r[0] for c, r in zip(captions, references, strict=True)]
            return scores | {"exact": float(np.mean(exact))}
        bleus = {
            source: float(bleu(said[source], [references[i] for i in images])[3])
            for source, images in self.images.items()
        }
        scores["Bleu_4"] = float(np.mean(list(bleus.values())))
        if len(said) > 1:
            scores |= {f"CIDEr {source}": value for source, value in ciders.items()}
            scores |= {f"Bleu_4 {source}": value for source, value in bleus.items()}
        return scores


class Foreseen:
    """How well a decoder foresees the captions that people wrote.

    val_loss: nats a word, without label smoothing. perplexity: e to that, how many words it wavers between.
    """

    def __init__(
        self,
        config: TrainingConfig,
        vocabulary: Vocabulary,
        split: Split,
        features: FeatureSource,
        world: World,
    ) -> None:
        self.config, self.features, self.world = config, features, world
        self.token_ids = split.token_ids(vocabulary, config.captions_per_image, config.max_words)

    def __call__(self, encoder: nn.Module, decoder: Decoder) -> Scores:
        losses = []
        mine = self.world.share(np.arange(len(self.token_ids)))
        for start in range(0, len(mine), BATCH):
            images = mine[start : start + BATCH]
            with torch.inference_mode(), autocast(self.world.device, self.config.amp):
                features = self.features(encoder, images)
            losses.append(self.nats(decoder, features, images))
        return self.scores(losses)

    def nats(self, decoder: Decoder, features: Features, images: np.ndarray) -> tuple[float, int]:
        """What all words of the captions of some images cost together, and how many words these are."""
        with torch.inference_mode(), autocast(self.world.device, self.config.amp):
            forced = teacher_force(decoder, features, self.token_ids[images].to(self.world.device))
        loss = F.cross_entropy(forced.logits, forced.targets, reduction="sum").item()
        return loss, len(forced.targets)

    def scores(self, losses: Sequence[tuple[float, int]]) -> Scores:
        """Those of all processes' images, of what `nats` gave of this one's."""
        nats, words = self.world.sum([sum(column) for column in zip((0.0, 0), *losses, strict=True)])
        return {"val_loss": nats / words, "perplexity": math.exp(min(nats / words, 700.0))}
