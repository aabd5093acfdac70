"""Show, Attend and Tell: an LSTM that looks at one weighted mean of the places for each word.

Xu et al., arXiv 1502.03044: soft attention (section 4.2), gate beta (4.2.1), initial states and
deep output (3.1.2, equation 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.attention import attend, layer_norm, mean_annotation, prepared
from captionbot.decoders.base import Decoder, DecoderConfig, State
from captionbot.decoders.family import ATTENTION, Equations, Family
from captionbot.decoders.from_scratch import remember
from captionbot.decoders.packing import Matrix, Packing
from captionbot.errors import CaptionBotError
from captionbot.types import Features


@dataclass(frozen=True)
class SoftAttentionConfig(DecoderConfig):
    """Sizes of the decoder.

    annotation_size: width that features are projected to before attention, None to attend to the
        features as they come, as in the paper; narrower annotations learn better from few photos.
    normalise: layer norm (arXiv 1607.06450) of the features, so that one learning rate suits every CNN:
        their sizes differ by far between one and another.
    groups: channels of each of several CNNs, whose features are normalised apart; () for all together.
    tie_embedding: the output layer L_o is the embedding's transpose (arXiv 1608.05859).
    score_activation: "tanh" as in the paper, or "relu".
    initial_tanh: the first hidden and cell state pass a tanh; False takes the linear layers' output.
    deep_output: equation 7; False scores words by the hidden state alone, L_o h.
    dropout: on annotations, embedding and output, in training alone.

    score_activation, initial_tanh and deep_output differ in other projects, whose weights
    `captionbot.store.importers` reads.
    """

    annotation_size: int | None = None
    embedding_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    normalise: bool = False
    groups: tuple[int, ...] = ()
    tie_embedding: bool = False
    score_activation: str = "tanh"
    initial_tanh: bool = True
    deep_output: bool = True


class SoftAttentionDecoder(Decoder):
    """The LSTM decoder with Bahdanau soft attention (arXiv 1409.0473, appendix A.1.2)."""

    def __init__(self, config: SoftAttentionConfig) -> None:
        super().__init__(config)
        if config.score_activation not in ("tanh", "relu"):
            raise CaptionBotError(f"'{config.score_activation}' is no score_activation; choose tanh or relu.")
        annotation = config.annotation_size or config.feature_size
        self.normalise = layer_norm(config) if config.normalise else nn.Identity()
        self.annotate = nn.Linear(config.feature_size, annotation) if config.annotation_size else None
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.init_hidden = nn.Linear(annotation, config.hidden_size)
        self.init_cell = nn.Linear(annotation, config.hidden_size)
        self.attend_annotation = nn.Linear(annotation, config.attention_size)  # U_a of the score
        self.attend_hidden = nn.Linear(config.hidden_size, config.attention_size, bias=False)  # W_a
        self.attend_score = nn.Linear(config.attention_size, 1, bias=False)  # v_a
        self.gate = nn.Linear(config.hidden_size, annotation)  # f_beta
        self.lstm = nn.LSTMCell(config.embedding_size + annotation, config.hidden_size)
        if config.deep_output:
            self.output_hidden = nn.Linear(config.hidden_size, config.embedding_size)  # L_h
            self.output_context = nn.Linear(annotation, config.embedding_size, bias=False)  # L_z
        output = config.embedding_size if config.deep_output else config.hidden_size
        self.output_word = nn.Linear(output, config.vocabulary_size)  # L_o
        nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)
        if config.tie_embedding:
            self.output_word.weight = self.embedding.weight

    def start(self, features: Features) -> State:
        annotations = self.normalise(features.values)  # (B, P, C)
        if self.annotate is not None:
            annotations = self.dropped(self.annotate(annotations).relu())
        mean = mean_annotation(annotations, features.mask)
        keys = prepared(self.attend_annotation(annotations), self.config.score_activation)
        images = {"annotations": annotations, "keys": keys}
        if features.mask is not None:
            images["mask"] = features.mask
        rows = {"hidden": self.init_hidden(mean), "cell": self.init_cell(mean)}
        if self.config.initial_tanh:
            rows = {name: values.tanh() for name, values in rows.items()}
        return State(images, rows)

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        hidden, cell = state.rows["hidden"], state.rows["cell"]  # (N, H)
        word = self.dropped(self.embedding(token_ids))  # (N, E)
        context, alphas = self._look(state, self.attend_hidden(hidden), self.gate(hidden))
        hidden, cell = self.lstm(torch.cat([word, context], -1), (hidden, cell))
        output = hidden
        if self.config.deep_output:
            output = word + self.output_hidden(hidden) + self.output_context(context)  # equation 7
        return output, alphas, State(state.images, {"hidden": hidden, "cell": cell})

    def _look(self, state: State, query: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """(N, A) W_a h and (N, C) f_beta(h) before its sigmoid -> (N, C) gated context, (N, P) alphas."""
        activation = self.config.score_activation
        weight = self.attend_score.weight[0]
        context, alphas = attend(state.images, prepared(query, activation), weight, activation)
        return gate.sigmoid() * context, alphas

    def gates(self, state: State) -> Tensor:
        gate: Tensor = self.gate(state.rows["hidden"])
        return gate.sigmoid()

    def logits(self, output: Tensor) -> Tensor:
        logits: Tensor = self.output_word(self.dropped(output))
        return logits


class PackedSoftAttentionDecoder(SoftAttentionDecoder):
    """One product for all that multiplies the hidden state, and one for all that multiplies the context.

    What each word adds to the LSTM's gates, (V, 4 H), is worked out beforehand: a step then reads a row a
    hypothesis instead of the embedding's share of the weights.
    """

    def __init__(self, decoder: SoftAttentionDecoder, packing: Packing) -> None:
        super(SoftAttentionDecoder, self).__init__(decoder.config)
        self.evidence, self.dtype = decoder.evidence, packing.dtype
        self.normalise, self.annotate, self.embedding = decoder.normalise, decoder.annotate, decoder.embedding
        self.init_hidden, self.init_cell = decoder.init_hidden, decoder.init_cell
        self.attend_annotation, self.attend_score = decoder.attend_annotation, decoder.attend_score
        self.output_word = decoder.output_word
        lstm, words = decoder.lstm, decoder.embedding.weight.detach()
        size = words.shape[1]
        self.word_gates = F.linear(words, lstm.weight_ih.detach()[:, :size], lstm.bias_ih + lstm.bias_hh)
        of_hidden = [
            Matrix.of(decoder.attend_hidden), Matrix.of(decoder.gate), Matrix(lstm.weight_hh)
        ]  # fmt: skip
        of_context = [Matrix(lstm.weight_ih, start=size)]
        if decoder.config.deep_output:
            self.output_hidden = decoder.output_hidden
            of_context.insert(0, Matrix.of(decoder.output_context))
        self.of_hidden, self.of_context = packing(*of_hidden), packing(*of_context)
        self.hidden_sizes, self.context_sizes = (
            [len(matrix.weight) for matrix in matrices] for matrices in (of_hidden, of_context)
        )

    def start(self, features: Features) -> State:
        state = super().start(features)
        annotations = state.images["annotations"].to(self.dtype)  # what contexts are summed in
        return State(state.images | {"annotations": annotations}, state.rows)

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        query, gate, of_hidden = self._of_hidden(state)
        context, alphas = self._look(state, query, gate)
        *said, of_context = self.of_context(context).split(self.context_sizes, -1)
        gates = of_context + of_hidden + F.embedding(token_ids, self.word_gates)
        hidden, cell = remember(gates, state.rows["cell"])
        output = hidden
        if self.config.deep_output:
            output = self.embedding(token_ids) + self.output_hidden(hidden) + said[0]
        return output, alphas, State(state.images, {"hidden": hidden, "cell": cell})

    def gates(self, state: State) -> Tensor:
        return self._of_hidden(state)[1].sigmoid()

    def _of_hidden(self, state: State) -> tuple[Tensor, ...]:
        """W_a h, f_beta(h) before its sigmoid, and W_hh h."""
        joined: Tensor = self.of_hidden(state.rows["hidden"])
        parts: tuple[Tensor, ...] = joined.split(self.hidden_sizes, -1)
        return parts


FAMILY = Family(
    kind="soft-attention",
    title="Show, Attend and Tell",
    decoder=SoftAttentionDecoder,
    config=SoftAttentionConfig,
    equations=Equations(
        rf"{ATTENTION}, \quad e_{{ti}} = v^\top \tanh(W h_{{t-1}} + U a_i), \quad "
        r"z_t = \beta_t \sum_i \alpha_{ti} a_i, \quad "
        r"\mathcal{L} = -\log p(y) + \lambda \sum_i \Big(1 - \sum_t \alpha_{ti}\Big)^2",
        "Xu et al., Show, Attend and Tell, arXiv 1502.03044, sections 4.2 and 4.2.1.",
        "Training nudged the model towards looking everywhere about as much (*doubly stochastic* attention).",
    ),
    packers={SoftAttentionDecoder: PackedSoftAttentionDecoder},
)
