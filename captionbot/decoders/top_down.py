"""Bottom-up and top-down attention: one cell decides where to look, a second one what to say.

Anderson et al., arXiv 1707.07998, section 3.2, equations 1 to 7, with GRUs in the LSTMs' place where
they are chosen. The places may be detected boxes, as in the paper, or the cells of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captionbot.decoders.attention import attend, layer_norm, mean_annotation, prepared
from captionbot.decoders.base import Decoder, DecoderConfig, State
from captionbot.decoders.family import ATTENTION, Equations, Family
from captionbot.errors import CaptionBotError
from captionbot.types import Features

CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}


@dataclass(frozen=True)
class TopDownConfig(DecoderConfig):
    """Sizes of the decoder.

    cell: lstm, as in the paper, or gru; of both layers.
    annotation_size: width that features are projected to before attention, None to attend to the
        features as they come, as in the paper; narrower annotations learn better from few photos.
    own_mean: the mean of the features has a projection of its own, instead of being that of annotations.
    normalise: layer norm (arXiv 1607.06450) of the features, so that one learning rate suits every CNN.
    groups: channels of each of several CNNs, whose features are normalised apart; () for all together.
    tie_embedding: the output layer is the embedding's transpose (arXiv 1608.05859), behind a linear
        layer from the hidden size to the embedding's.
    dropout: on annotations, words and output, in training alone.
    """

    cell: str = "lstm"
    annotation_size: int | None = None
    embedding_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    own_mean: bool = False
    normalise: bool = False
    groups: tuple[int, ...] = ()
    tie_embedding: bool = False


class TopDownDecoder(Decoder):
    """The attention cell reads the word, the mean place and what was said; the language cell speaks."""

    def __init__(self, config: TopDownConfig) -> None:
        super().__init__(config)
        if config.cell not in CELLS:
            raise CaptionBotError(f"'{config.cell}' is not a cell; choose one of {', '.join(CELLS)}.")
        cell, hidden, embedding = CELLS[config.cell], config.hidden_size, config.embedding_size
        annotation = config.annotation_size or config.feature_size
        self.normalise = layer_norm(config) if config.normalise else nn.Identity()
        self.annotate = nn.Linear(config.feature_size, annotation) if config.annotation_size else None
        self.annotate_mean = nn.Linear(config.feature_size, annotation) if config.own_mean else None
        self.embedding = nn.Embedding(config.vocabulary_size, embedding)  # W_e
        self.attention_cell = cell(hidden + annotation + embedding, hidden)
        self.attend_annotation = nn.Linear(annotation, config.attention_size)  # W_va
        self.attend_hidden = nn.Linear(hidden, config.attention_size, bias=False)  # W_ha
        self.attend_score = nn.Linear(config.attention_size, 1, bias=False)  # w_a
        self.language_cell = cell(annotation + hidden, hidden)
        self.output_hidden = nn.Linear(hidden, embedding) if config.tie_embedding else nn.Identity()
        self.output_word = nn.Linear(embedding if config.tie_embedding else hidden, config.vocabulary_size)
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
        if config.tie_embedding:
            self.output_word.weight = self.embedding.weight

    def start(self, features: Features) -> State:
        annotations = self.normalise(features.values)  # (B, P, C)
        mean = None
        if self.annotate_mean is not None:
            mean = self.dropped(self.annotate_mean(mean_annotation(annotations, features.mask)).relu())
        if self.annotate is not None:
            annotations = self.dropped(self.annotate(annotations).relu())
        images = {
            "annotations": annotations,
            "keys": prepared(self.attend_annotation(annotations)),
            "mean": mean_annotation(annotations, features.mask) if mean is None else mean,
        }
        if features.mask is not None:
            images["mask"] = features.mask
        nothing = annotations.new_zeros(len(annotations), self.config.hidden_size)
        parts = ("hidden", "cell") if self.config.cell == "lstm" else ("hidden",)
        return State(
            images, {f"{layer}_{part}": nothing for layer in ("attention", "language") for part in parts}
        )

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        word = self.dropped(self.embedding(token_ids))  # (N, E)
        mean = state.images["mean"].repeat_interleave(len(word) // len(state.images["mean"]), 0)
        x = torch.cat([state.rows["language_hidden"], mean, word], -1)  # equation 2
        looking = self._run("attention", x, state)
        query = prepared(self.attend_hidden(looking["attention_hidden"]))  # (N, A)
        context, alphas = attend(state.images, query, self.attend_score.weight[0])  # equations 3 to 5
        x = torch.cat([context, looking["attention_hidden"]], -1)  # equation 6
        speaking = self._run("language", x, state)
        output = self.output_hidden(self.dropped(speaking["language_hidden"]))
        return output, alphas, State(state.images, looking | speaking)

    def logits(self, output: Tensor) -> Tensor:
        logits: Tensor = self.output_word(output)  # equation 7
        return logits

    def _run(self, layer: str, x: Tensor, state: State) -> dict[str, Tensor]:
        """One step of a layer's cell: (N, D) input and its rows of the state -> its next rows."""
        cell, hidden = self.get_submodule(f"{layer}_cell"), state.rows[f"{layer}_hidden"]
        if self.config.cell == "gru":
            return {f"{layer}_hidden": cell(x, hidden)}
        hidden, memory = cell(x, (hidden, state.rows[f"{layer}_cell"]))
        return {f"{layer}_hidden": hidden, f"{layer}_cell": memory}


FAMILY = Family(
    kind="top-down",
    title="Bottom-up and top-down",
    decoder=TopDownDecoder,
    config=TopDownConfig,
    equations=Equations(
        rf"{ATTENTION}, \quad e_{{ti}} = w_a^\top \tanh(W_{{va}} v_i + W_{{ha}} h^1_t), \quad "
        r"\hat v_t = \sum_i \alpha_{ti} v_i",
        "Anderson et al., Bottom-Up and Top-Down Attention, arXiv 1707.07998, section 3.2.",
    ),
)
