"""Attention on attention: what attention found is let through as far as it answers the question.

Huang et al., arXiv 1908.06954: the module (section 3.1, equations 2 to 4), places refined by it (3.2.1,
equations 6 to 8), and an LSTM that asks and is answered by it (3.2.2, equations 9 to 11).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.attention import mean_annotation
from captionbot.decoders.base import Decoder, DecoderConfig, State
from captionbot.decoders.family import ATTENTION, Equations, Family
from captionbot.decoders.transformer import Pair, ScratchAttention, ScratchLayerNorm, padding_of
from captionbot.errors import CaptionBotError
from captionbot.types import Features


@dataclass(frozen=True)
class AttentionOnAttentionConfig(DecoderConfig):
    """Sizes of the decoder; places and the cell's state are of the hidden size D.

    refining_layers: in which places attend to each other first.
    normalise: layer norm of the features, so that one learning rate suits every encoder.
    dropout: on places, words, output, attention weights and residuals, in training alone.
    """

    embedding_size: int = 512
    hidden_size: int = 512
    heads: int = 8
    refining_layers: int = 6
    normalise: bool = False
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise CaptionBotError(
                f"A hidden size of {self.hidden_size} cannot be split into {self.heads} heads; give a "
                "hidden_size that is a multiple of the heads."
            )


class AttentionOnAttention(nn.Module):
    """Multi-head attention, its result and the question making a vector and the gate that it goes through."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = ScratchAttention(size, heads, dropout)
        self.attention.output = nn.Identity()  # type: ignore[assignment]  # heads are not mixed (equation 7)
        self.vector_and_gate = nn.Linear(2 * size, 2 * size)

    def forward(self, x: Tensor, pair: Pair, padding: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, Q, D) that asks, (B, heads, P, d) keys and values -> (B, Q, D), weights (B, heads, Q, P)."""
        queries = self.attention.queries(x)
        found, weights = self.attention(queries, pair, padding)
        question = queries.transpose(1, 2).flatten(2)
        return F.glu(self.vector_and_gate(torch.cat([question, found], -1))), weights


class RefiningLayer(nn.Module):
    """Places ask each other (equation 8)."""

    def __init__(self, config: AttentionOnAttentionConfig) -> None:
        super().__init__()
        self.ask = AttentionOnAttention(config.hidden_size, config.heads, config.dropout)
        self.norm = ScratchLayerNorm(config.hidden_size)
        self.dropout = config.dropout

    def forward(self, places: Tensor, padding: Tensor | None) -> Tensor:
        """(B, P, D) -> (B, P, D)."""
        answer, _ = self.ask(places, self.ask.attention.pair(places), padding)
        refined: Tensor = self.norm(places + F.dropout(answer, self.dropout, self.training))
        return refined


class AttentionOnAttentionDecoder(Decoder):
    """An LSTM reads the word, the mean place and what it was last answered, and asks the places."""

    def __init__(self, config: AttentionOnAttentionConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.normalise = nn.LayerNorm(config.feature_size) if config.normalise else nn.Identity()
        self.image = nn.Linear(config.feature_size, size)
        self.refine = nn.ModuleList(RefiningLayer(config) for _ in range(config.refining_layers))
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.cell = nn.LSTMCell(config.embedding_size + size, size)
        self.ask = AttentionOnAttention(size, config.heads, config.dropout)
        self.output_word = nn.Linear(size, config.vocabulary_size)
        nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)

    def start(self, features: Features) -> State:
        places = self.dropped(self.image(self.normalise(features.values)).relu())  # (B, P, D)
        padding = padding_of(features)
        for layer in self.refine:
            places = layer(places, padding)
        keys, values = self.ask.attention.pair(places)
        images = {"keys": keys, "values": values, "mean": mean_annotation(places, features.mask)}
        if padding is not None:
            images["padding"] = padding
        nothing = places.new_zeros(len(places), self.config.hidden_size)
        return State(images, {"hidden": nothing, "cell": nothing, "answer": nothing})

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        images, rows = state.images, state.rows
        batch = len(images["mean"])
        beside = images["mean"].repeat_interleave(len(token_ids) // batch, 0) + rows["answer"]
        x = torch.cat([self.dropped(self.embedding(token_ids)), beside], -1)  # equation 9
        hidden, cell = self.cell(x, (rows["hidden"], rows["cell"]))
        asked = hidden.view(batch, -1, hidden.shape[1])
        answer, weights = self.ask(asked, (images["keys"], images["values"]), images.get("padding"))
        answer, alphas = answer.flatten(0, 1), weights.mean(1).flatten(0, 1)
        state = State(images, {"hidden": hidden, "cell": cell, "answer": answer})
        return self.dropped(answer), alphas, state

    def logits(self, output: Tensor) -> Tensor:
        logits: Tensor = self.output_word(output)
        return logits


FAMILY = Family(
    kind="attention-on-attention",
    title="Attention on attention",
    decoder=AttentionOnAttentionDecoder,
    config=AttentionOnAttentionConfig,
    equations=Equations(
        rf"{ATTENTION}, \quad \hat v_t = \sum_i \alpha_{{ti}} v_i, \quad "
        r"c_t = \sigma(W^g_q q_t + W^g_v \hat v_t + b^g) \odot (W^i_q q_t + W^i_v \hat v_t + b^i)",
        "Huang et al., Attention on Attention for Image Captioning, arXiv 1908.06954, section 3.",
    ),
    limits={"heads": 256, "refining_layers": 64},
)
