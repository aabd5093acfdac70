"""Att2in: attention that the cell's candidate alone is given, not its gates.

Rennie et al., Self-critical Sequence Training, arXiv 1612.00563, section 2 ("attention models"), with
additive attention by the last hidden state and a maxout candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from captionbot.decoders.attention import attend, prepared
from captionbot.decoders.base import Decoder, DecoderConfig, State
from captionbot.decoders.family import ATTENTION, Equations, Family
from captionbot.decoders.recurrent import MaxoutLSTMCell
from captionbot.types import Features


@dataclass(frozen=True)
class Att2inConfig(DecoderConfig):
    """Sizes of the decoder.

    annotation_size: width that features are projected to before attention, None to attend to them as such.
    normalise: layer norm (arXiv 1607.06450) of the features, so that one learning rate suits every CNN.
    dropout: on annotations, words and output, in training alone.
    """

    annotation_size: int | None = 512
    embedding_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    normalise: bool = False


class Att2inDecoder(Decoder):
    """One maxout LSTM, which looks before it reads."""

    def __init__(self, config: Att2inConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_size
        annotation = config.annotation_size or config.feature_size
        self.normalise = nn.LayerNorm(config.feature_size) if config.normalise else nn.Identity()
        self.annotate = nn.Linear(config.feature_size, annotation) if config.annotation_size else None
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.attend_annotation = nn.Linear(annotation, config.attention_size)
        self.attend_hidden = nn.Linear(hidden, config.attention_size, bias=False)
        self.attend_score = nn.Linear(config.attention_size, 1, bias=False)
        self.candidate = nn.Linear(annotation, 2 * hidden)
        self.cell = MaxoutLSTMCell(config.embedding_size, hidden)
        self.output_word = nn.Linear(hidden, config.vocabulary_size)
        nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)

    def start(self, features: Features) -> State:
        annotations = self.normalise(features.values)  # (B, P, C)
        if self.annotate is not None:
            annotations = self.dropped(self.annotate(annotations).relu())
        images = {"annotations": annotations, "keys": prepared(self.attend_annotation(annotations))}
        if features.mask is not None:
            images["mask"] = features.mask
        nothing = annotations.new_zeros(len(annotations), self.config.hidden_size)
        return State(images, {"hidden": nothing, "cell": nothing})

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        hidden, cell = state.rows["hidden"], state.rows["cell"]
        query = prepared(self.attend_hidden(hidden))  # (N, A)
        context, alphas = attend(state.images, query, self.attend_score.weight[0])
        word = self.dropped(self.embedding(token_ids))
        hidden, cell = self.cell(word, (hidden, cell), self.candidate(context))
        return self.dropped(hidden), alphas, State(state.images, {"hidden": hidden, "cell": cell})

    def logits(self, output: Tensor) -> Tensor:
        logits: Tensor = self.output_word(output)
        return logits


FAMILY = Family(
    kind="att2in",
    title="Att2in",
    decoder=Att2inDecoder,
    config=Att2inConfig,
    equations=Equations(
        rf"{ATTENTION}, \quad e_{{ti}} = w^\top \tanh(W_a v_i + W_h h_{{t-1}}), \quad "
        r"g_t = \max(W_g^{(1)} z_t + \dots, W_g^{(2)} z_t + \dots)",
        "Rennie et al., Self-critical Sequence Training, arXiv 1612.00563.",
    ),
)
