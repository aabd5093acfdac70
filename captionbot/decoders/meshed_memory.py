"""Meshed-memory Transformer: places that attend to each other and to what is always so, at every level.

Cornia et al., arXiv 1912.08226: memory slots in the encoder's attention (section 3.1, equations 2 to 4), and
a decoder that weighs what it sees of all of the encoder's layers (section 3.2, equations 5 to 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from captionbot.decoders.family import SCALED_PRODUCTS, Family
from captionbot.decoders.transformer import (
    Pair,
    ScratchAttention,
    ScratchLayerNorm,
    ScratchTransformerLayer,
    TransformerConfig,
    TransformerDecoder,
    pack_layer,
    padding_of,
)
from captionbot.types import Features


@dataclass(frozen=True)
class MeshedMemoryConfig(TransformerConfig):
    """encoder_layers: levels of the places. memory_slots: of each level's attention, beside the places."""

    layers: int = 3
    encoder_layers: int = 3
    memory_slots: int = 40


class MemoryEncoderLayer(nn.Module):
    """Places attend to each other and to learnt slots; a feed-forward network; each added and normalised."""

    def __init__(self, config: MeshedMemoryConfig) -> None:
        super().__init__()
        size = config.embedding_size
        self.attention = ScratchAttention(size, config.heads, config.dropout)
        width = size // config.heads
        self.keys = nn.Parameter(torch.randn(config.heads, config.memory_slots, width) / width)
        self.values = nn.Parameter(
            torch.randn(config.heads, config.memory_slots, width) / config.memory_slots
        )
        self.widen = nn.Linear(size, config.feedforward_size)
        self.narrow = nn.Linear(config.feedforward_size, size)
        self.norm1, self.norm2 = ScratchLayerNorm(size), ScratchLayerNorm(size)
        self.dropout = config.dropout

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """(B, P, D) -> (B, P, D). padding: (B, 1, 1, P) bool, True at no real places."""
        pair = [
            torch.cat([ours, slots.expand(len(x), -1, -1, -1)], 2)
            for ours, slots in zip(self.attention.pair(x), (self.keys, self.values), strict=True)
        ]
        if padding is not None:
            padding = nn.functional.pad(padding, (0, self.keys.shape[1]), value=False)
        attended, _ = self.attention(self.attention.queries(x), (pair[0], pair[1]), padding)
        x = self.norm1(x + self._dropped(attended))
        found: Tensor = self.norm2(x + self._dropped(self.narrow(self._dropped(self.widen(x).relu()))))
        return found

    def _dropped(self, values: Tensor) -> Tensor:
        return nn.functional.dropout(values, self.dropout, self.training)


class MeshedLayer(ScratchTransformerLayer):
    """Looks at every level, and lets each through by a gate of its own."""

    def __init__(self, config: MeshedMemoryConfig) -> None:
        super().__init__(config)
        size = config.embedding_size
        self.gates = nn.ModuleList(nn.Linear(2 * size, size) for _ in range(config.encoder_layers))

    def look(self, x: Tensor, memories: Sequence[Pair], padding: Tensor | None) -> tuple[Tensor, Tensor]:
        """Equations 5 to 7; the weights are the mean over levels."""
        queries = self.cross_attention.queries(x)
        seen = [self.cross_attention(queries, memory, padding) for memory in memories]
        gates = [gate(torch.cat([x, c], -1)).sigmoid() for gate, (c, _) in zip(self.gates, seen, strict=True)]
        mesh = torch.stack([gate * c for gate, (c, _) in zip(gates, seen, strict=True)]).sum(0)
        return mesh, torch.stack([weights for _, weights in seen]).mean(0)


class MeshedMemoryDecoder(TransformerDecoder):
    """A Transformer whose places are encoded first, and seen at every level of that."""

    layer = MeshedLayer

    def __init__(self, config: MeshedMemoryConfig) -> None:
        super().__init__(config)
        self.encoder = nn.ModuleList(MemoryEncoderLayer(config) for _ in range(config.encoder_layers))
        self.image_norm = ScratchLayerNorm(config.embedding_size)

    def levels(self, features: Features) -> list[Tensor]:
        (places,) = super().levels(features)
        places = self.image_norm(places.relu())
        padding = padding_of(features)
        found = []
        for layer in self.encoder:
            places = cast(MemoryEncoderLayer, layer)(places, padding)
            found.append(places)
        return found


FAMILY = Family(
    kind="meshed-memory",
    title="Meshed-memory Transformer",
    decoder=MeshedMemoryDecoder,
    config=MeshedMemoryConfig,
    equations=SCALED_PRODUCTS,
    packers={MeshedLayer: pack_layer},
    limits={"layers": 64, "heads": 256, "encoder_layers": 64, "memory_slots": 4096},
)
