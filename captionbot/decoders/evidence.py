"""Word evidence: what a photo as a whole says for each word and pair of words, apart from all sentences.

A detector of words (Fang et al., arXiv 1411.4952, section 3) on the photo's mean feature. It knows no
sentences, and the decoder's errors are not its errors, so that finished sentences are better ranked with it
than by their probability alone (section 5, there). `training.fit.reranker` fits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.attention import mean_annotation
from captionbot.types import Features

ALONE = -1  # in the place of a second word


class WordEvidence(nn.Module):
    """w (log-odds that people say a phrase of this photo - those of any photo), for each of N phrases.

    The weight w is a part of the tensors.

    phrases: (N, 2) ids of neighbouring words, or of one word and `ALONE`. All others have no say.
    """

    phrases: Tensor

    def __init__(self, feature_size: int, phrases: int, rank: int, linear: int = 0, hidden: int = 0) -> None:
        """phrases: N. rank: numbers that a photo is reduced to in between.

        linear, hidden: numbers that its feature becomes before that, as they are and through a GELU; where
            there are none the whole is one linear layer.
        """
        super().__init__()
        self.linear, inner = linear, linear + hidden
        self.widen = nn.Linear(feature_size, inner) if inner else None
        self.reduce = nn.Linear(inner or feature_size, rank)
        self.say = nn.Linear(rank, phrases)
        self.register_buffer("phrases", torch.zeros(phrases, 2, dtype=torch.int32))
        self.sizes = {"phrases": phrases, "rank": rank, "linear": linear, "hidden": hidden}

    def forward(self, features: Features) -> Tensor:
        """B images -> (B, N)."""
        device = features.values.device.type
        with torch.autocast(device, enabled=False):  # sentences of a beam differ by little
            return self.of_means(mean_annotation(features.values.float(), features.mask))

    def of_means(self, means: Tensor) -> Tensor:
        """(B, C) mean features -> (B, N)."""
        if self.widen is not None:
            means = self.widen(means)
            means = torch.cat([means[:, : self.linear], F.gelu(means[:, self.linear :])], 1)
        found: Tensor = self.say(self.reduce(means))
        return found

    def photo_numbers(self, means: Tensor) -> Tensor:
        """(B, C) mean features -> (B, D), what the linear part reduces them to: in few numbers, what a photo
        is like."""
        if self.widen is None:
            numbers: Tensor = self.reduce(means)
            return numbers
        wide: Tensor = self.widen(means)
        return wide[:, : self.linear]

    @property
    def numbers(self) -> int:
        """D of `photo_numbers`."""
        return self.linear if self.widen is not None else self.sizes["rank"]

    @cached_property
    def _numbers(self) -> dict[tuple[int, ...], int]:
        return {tuple(phrase): number for number, phrase in enumerate(self.phrases.tolist())}

    def said(self, words: Sequence[int]) -> list[int]:
        """The numbers of the phrases that a sentence says, each once."""
        phrases = {(word, ALONE) for word in words} | set(pairwise(words))
        return sorted(self._numbers[phrase] for phrase in phrases if phrase in self._numbers)
