"""Word evidence: what a photo as a whole says for each word, apart from all sentences.

A detector of words (Fang et al., arXiv 1411.4952, section 3) as one linear layer on the photo's mean feature.
It knows no grammar, and the decoder's errors are not its errors, so that finished sentences are better ranked
with it than by their probability alone (section 5, there). `training.evidence` fits it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captionbot.decoders.attention import mean_annotation
from captionbot.types import Features


class WordEvidence(nn.Module):
    """w (log-odds that people say a word of this photo - those of any photo), for each word.

    The weight w is a part of the tensors. A word that was too rare to learn of has 0.
    """

    def __init__(self, feature_size: int, vocabulary_size: int, rank: int) -> None:
        """rank: numbers that the feature is reduced to in between."""
        super().__init__()
        self.reduce = nn.Linear(feature_size, rank)
        self.words = nn.Linear(rank, vocabulary_size)

    def forward(self, features: Features) -> Tensor:
        """B images -> (B, V)."""
        device = features.values.device.type
        with torch.autocast(device, enabled=False):  # sentences of a beam differ by little
            mean = mean_annotation(features.values.float(), features.mask)
            evidence: Tensor = self.words(self.reduce(mean))
        return evidence
