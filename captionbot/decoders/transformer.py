"""A Transformer decoder whose every equation is written out: no layer of PyTorch's but linear maps.

Vaswani et al., arXiv 1706.03762: scaled dot-product attention and heads (section 3.2), the feed-forward
network (3.3), embeddings times sqrt(D) (3.4), sinusoids (3.5), normalisation after each residual (3.1).
The places of the image are the memory that words attend to: one pooled feature is a memory of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.base import Decoder, DecoderConfig, State
from captionbot.decoders.cache import Cache, tokens_to_see
from captionbot.decoders.family import Family
from captionbot.decoders.packing import Matrix, Packing
from captionbot.errors import CaptionBotError
from captionbot.types import Features

Pair = tuple[Tensor, Tensor]  # keys and values


@dataclass(frozen=True)
class TransformerConfig(DecoderConfig):
    """Sizes of the decoder; the embedding's width D is the width of every layer.

    normalise: layer norm of the features, so that one learning rate suits every encoder.
    tie_embedding: the output layer is the embedding's transpose (arXiv 1608.05859).
    dropout: on image, words, attention weights and residuals, in training alone.
    """

    embedding_size: int = 512
    heads: int = 8
    layers: int = 2
    feedforward_size: int = 2048
    normalise: bool = False
    tie_embedding: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.embedding_size % (2 * self.heads):
            raise CaptionBotError(
                f"An embedding of {self.embedding_size} cannot be split into {self.heads} heads of an even "
                "width; give an embedding_size that is a multiple of twice the heads."
            )


class ScratchLayerNorm(nn.Module):
    """Layer norm (arXiv 1607.06450, section 3), gain and bias learnt."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred * (centred.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * self.weight + self.bias


class ScratchAttention(nn.Module):
    """Multi-head attention (arXiv 1706.03762, section 3.2.2)."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.output = (nn.Linear(size, size) for _ in range(4))

    def pair(self, x: Tensor) -> Pair:
        """(G, S, D) -> the keys and values by which queries find it, (G, heads, S, d) each, d = D / heads."""
        return self._split(self.key(x)), self._split(self.value(x))

    def queries(self, x: Tensor) -> Tensor:
        """(G, T, D), what asks -> (G, heads, T, d)."""
        return self._split(self.query(x))

    def of_itself(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`queries` and `pair` of the same x."""
        return self.queries(x), *self.pair(x)

    def forward(self, q: Tensor, pair: Pair, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """softmax(Q K^T / sqrt(d)) V for each head (equation 1).

        q: (G, heads, T, d) queries; pair: (G, heads, S, d) keys and values.
        hidden: bool, broadcast to (G, heads, T, S), True where q must not look.
        Returns (G, T, D) and the weights (G, heads, T, S), each row summing to 1.
        """
        k, v = pair
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # (G, heads, T, S)
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        weights = scores.softmax(-1)
        context = F.dropout(weights, self.dropout, self.training) @ v
        return self.output(context.transpose(1, 2).flatten(2)), weights

    def _split(self, x: Tensor) -> Tensor:
        """(G, S, D) -> (G, heads, S, d)."""
        heads: Tensor = x.unflatten(-1, (self.heads, -1))
        return heads.transpose(1, 2)


class ScratchTransformerLayer(nn.Module):
    """Self-attention, attention to the image, and a feed-forward network, each added and normalised."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        size, self.dropout = config.embedding_size, config.dropout
        self.self_attention = ScratchAttention(size, config.heads, config.dropout)
        self.cross_attention = ScratchAttention(size, config.heads, config.dropout)
        self.widen = nn.Linear(size, config.feedforward_size)
        self.narrow = nn.Linear(config.feedforward_size, size)
        self.norm1, self.norm2, self.norm3 = (ScratchLayerNorm(size) for _ in range(3))

    def forward(
        self, x: Tensor, past: Cache, memories: Sequence[Pair], sees: Tensor, padding: Tensor | None
    ) -> tuple[Tensor, Cache, Tensor]:
        """Q new words of each image, of all of its hypotheses.

        x: (B, Q, D); past: of the S words before; memories: keys and values of the image's P places, as each
            of `TransformerDecoder.levels` sees them.
        sees: (B, Q, S + Q) bool, which words each new one attends to.
        padding: (B, 1, 1, P) bool, True at no real places.
        Returns the next x, the past with the new words, and (B, Q, P) attention to the places.
        """
        q, *pair = self.self_attention.of_itself(x)
        past = past.appended(*pair)
        attended, _ = self.self_attention(q, (past.keys, past.values), ~sees.unsqueeze(1))
        x = self.norm1(x + self._dropped(attended))
        attended, weights = self.look(x, memories, padding)
        x = self.norm2(x + self._dropped(attended))
        wide = self._dropped(self.widen(x).relu())
        return self.norm3(x + self._dropped(self.narrow(wide))), past, weights.mean(1)

    def look(self, x: Tensor, memories: Sequence[Pair], padding: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, Q, D) words -> what they see, (B, Q, D), and how much of each place, (B, heads, Q, P)."""
        (memory,) = memories
        seen: tuple[Tensor, Tensor] = self.cross_attention(self.cross_attention.queries(x), memory, padding)
        return seen

    def _dropped(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)


class TransformerDecoder(Decoder):
    """Words attend to the words before them, through one `Cache` a layer, and to the places."""

    compiles = False
    layer: type[ScratchTransformerLayer] = ScratchTransformerLayer

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        size = config.embedding_size
        self.normalise = ScratchLayerNorm(config.feature_size) if config.normalise else nn.Identity()
        self.image = nn.Linear(config.feature_size, size)
        self.embedding = nn.Embedding(config.vocabulary_size, size)
        self.layers = nn.ModuleList(self.layer(config) for _ in range(config.layers))
        self.output_word = nn.Linear(size, config.vocabulary_size)
        for parameter in self.layers.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.embedding.weight, std=size**-0.5)
        if config.tie_embedding:
            self.output_word.weight = self.embedding.weight

    def levels(self, features: Features) -> list[Tensor]:
        """The places as words attend to them, (B, P, D) each: at one level, or at several."""
        return [self.dropped(self.image(self.normalise(features.values)))]

    def start(self, features: Features) -> State:
        levels = self.levels(features)
        images: dict[str, Any] = {}
        for i, layer in enumerate(self.layers):
            attention = cast(ScratchTransformerLayer, layer).cross_attention
            for level, places in enumerate(levels):
                images[f"keys.{i}.{level}"], images[f"values.{i}.{level}"] = attention.pair(places)
            nothing = images[f"keys.{i}.0"][:, :, :0]
            images[f"cache.{i}"] = Cache(nothing, nothing)
        if (padding := padding_of(features)) is not None:
            images["padding"] = padding
        return State(images, {"sees": levels[0].new_zeros(len(features), 0, dtype=torch.bool)})

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        output, alphas, state = self.advance_all(token_ids.unsqueeze(1), state)
        return output.squeeze(1), alphas.squeeze(1), state

    def advance_all(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """`advance` by all T words of (N, T) ids at once: (N, T, D), (N, T, P) and the state after the last.

        The alphas are the last layer's attention to the places, its heads averaged.
        """
        rows, words = token_ids.shape
        images, seen = dict(state.images), state.rows["sees"]  # (N, S)
        batch, size = len(images["keys.0.0"]), self.config.embedding_size
        levels = sum(name.startswith("keys.0.") for name in images)
        position = seen.sum(1, keepdim=True) + torch.arange(words, device=seen.device)  # (N, T)
        x = self.dropped(self.embedding(token_ids) * math.sqrt(size) + sinusoids(position, size))
        x, sees = x.view(batch, -1, size), tokens_to_see(seen, batch, words)
        for i, layer in enumerate(self.layers):
            memories = [
                (images[f"keys.{i}.{level}"], images[f"values.{i}.{level}"]) for level in range(levels)
            ]
            past = images[f"cache.{i}"]
            x, images[f"cache.{i}"], alphas = layer(x, past, memories, sees, images.get("padding"))
        x, alphas, sees = (values.reshape(rows, words, -1) for values in (x, alphas, sees))
        return x, alphas, State(images, {"sees": sees[:, -1]})

    def logits(self, output: Tensor) -> Tensor:
        logits: Tensor = self.output_word(output)
        return logits


def padding_of(features: Features) -> Tensor | None:
    """(B, 1, 1, P) bool, True at no real places, as attention takes it; None where all are real."""
    return None if features.mask is None else ~features.mask[:, None, None]


def sinusoids(position: Tensor, size: int) -> Tensor:
    """(...) positions from 0 -> (..., size): sines in even columns, cosines in odd ones (section 3.5)."""
    exponent = torch.arange(0, size, 2, device=position.device) / size
    angle = position.unsqueeze(-1) * 10000.0**-exponent  # (..., size / 2)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


class PackedSelfAttention(ScratchAttention):
    """Queries, keys and values of the same words by one product."""

    def __init__(self, attention: ScratchAttention, packing: Packing) -> None:
        nn.Module.__init__(self)
        self.heads, self.dropout, self.output = attention.heads, attention.dropout, attention.output
        self.all = packing(*map(Matrix.of, (attention.query, attention.key, attention.value)))

    def of_itself(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = map(self._split, self.all(x).chunk(3, -1))
        return q, k, v


def pack_layer(layer: ScratchTransformerLayer, packing: Packing) -> ScratchTransformerLayer:
    layer.self_attention = PackedSelfAttention(layer.self_attention, packing)
    return layer


FAMILY = Family(
    kind="scratch-transformer",
    title="Transformer from scratch",
    decoder=TransformerDecoder,
    config=TransformerConfig,
    packers={ScratchTransformerLayer: pack_layer},
    limits={"layers": 64, "heads": 256},
    small={
        "transformer": {
            "embedding_size": 256,
            "heads": 2,
            "layers": 2,
            "feedforward_size": 1024,
            "normalise": True,
            "dropout": 0.0,
        }
    },
)
