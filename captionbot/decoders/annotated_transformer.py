"""A Transformer that encodes the places first, and normalises before each layer instead of behind it.

Vaswani et al., arXiv 1706.03762, as "The Annotated Transformer" (Harvard NLP, 2018) builds it and captioning
took it up: pre-norm residuals, a norm behind the last layer, and a standard deviation without bias in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.base import State
from captionbot.decoders.cache import Cache
from captionbot.decoders.family import Family
from captionbot.decoders.transformer import (
    Pair,
    ScratchAttention,
    ScratchTransformerLayer,
    TransformerConfig,
    TransformerDecoder,
    pack_layer,
    padding_of,
)
from captionbot.types import Features


@dataclass(frozen=True)
class AnnotatedTransformerConfig(TransformerConfig):
    """encoder_layers: in which places attend to each other."""

    layers: int = 6
    encoder_layers: int = 6


class AnnotatedLayerNorm(nn.Module):
    """Gain and bias of (x - mean) / (std + 1e-6), the standard deviation that of a sample."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.bias


class AnnotatedEncoderLayer(nn.Module):
    """Places attend to each other, then a feed-forward network, each of what is normalised, and added."""

    def __init__(self, config: AnnotatedTransformerConfig) -> None:
        super().__init__()
        size, self.dropout = config.embedding_size, config.dropout
        self.self_attention = ScratchAttention(size, config.heads, config.dropout)
        self.widen = nn.Linear(size, config.feedforward_size)
        self.narrow = nn.Linear(config.feedforward_size, size)
        self.norm1, self.norm2 = AnnotatedLayerNorm(size), AnnotatedLayerNorm(size)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """(B, P, D) -> (B, P, D). padding: (B, 1, 1, P) bool, True at no real places."""
        q, *pair = self.self_attention.of_itself(self.norm1(x))
        attended, _ = self.self_attention(q, (pair[0], pair[1]), padding)
        x = x + self._dropped(attended)
        return x + self._dropped(self.narrow(self._dropped(self.widen(self.norm2(x)).relu())))

    def _dropped(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)


class AnnotatedLayer(ScratchTransformerLayer):
    """`ScratchTransformerLayer` with its norms in front."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.norm1, self.norm2, self.norm3 = (  # type: ignore[assignment]
            AnnotatedLayerNorm(config.embedding_size) for _ in range(3)
        )

    def forward(
        self, x: Tensor, past: Cache, memories: Sequence[Pair], sees: Tensor, padding: Tensor | None
    ) -> tuple[Tensor, Cache, Tensor]:
        q, *pair = self.self_attention.of_itself(self.norm1(x))
        past = past.appended(*pair)
        attended, _ = self.self_attention(q, (past.keys, past.values), ~sees.unsqueeze(1))
        x = x + self._dropped(attended)
        attended, weights = self.look(self.norm2(x), memories, padding)
        x = x + self._dropped(attended)
        wide = self._dropped(self.widen(self.norm3(x)).relu())
        return x + self._dropped(self.narrow(wide)), past, weights.mean(1)


class AnnotatedTransformerDecoder(TransformerDecoder):
    """Words attend to places that were encoded by each other."""

    layer = AnnotatedLayer

    def __init__(self, config: AnnotatedTransformerConfig) -> None:
        super().__init__(config)
        self.encoder = nn.ModuleList(AnnotatedEncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder_norm = AnnotatedLayerNorm(config.embedding_size)
        self.decoder_norm = AnnotatedLayerNorm(config.embedding_size)

    def levels(self, features: Features) -> list[Tensor]:
        places = self.dropped(self.image(self.normalise(features.values)).relu())
        padding = padding_of(features)
        for layer in self.encoder:
            places = cast(AnnotatedEncoderLayer, layer)(places, padding)
        return [self.encoder_norm(places)]

    def advance_all(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        output, alphas, state = super().advance_all(token_ids, state)
        return self.decoder_norm(output), alphas, state


FAMILY = Family(
    kind="annotated-transformer",
    title="Transformer with encoded places",
    decoder=AnnotatedTransformerDecoder,
    config=AnnotatedTransformerConfig,
    packers={AnnotatedLayer: pack_layer},
    limits={"layers": 64, "heads": 256, "encoder_layers": 64},
)
