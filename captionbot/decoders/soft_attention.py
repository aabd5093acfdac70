"""Show, Attend and Tell: an LSTM that looks at one weighted mean of the places for each word.

Xu et al., arXiv 1502.03044: soft attention (section 4.2), gate beta (4.2.1), initial states and
deep output (3.1.2, equation 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.base import Decoder, State
from captionbot.types import Features

_CACHED = 2**19  # numbers, 2 MB: what a core's share of a usual cache holds


@dataclass(frozen=True)
class SoftAttentionConfig:
    """Sizes of the decoder.

    annotation_size: width that features are projected to before attention, None to attend to the
        features as they come, as in the paper; narrower annotations learn better from few photos.
    tie_embedding: the output layer L_o is the embedding's transpose (arXiv 1608.05859).
    dropout: on annotations, embedding and output, in training alone.
    """

    vocabulary_size: int
    feature_size: int
    annotation_size: int | None = None
    embedding_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    tie_embedding: bool = False
    dropout: float = 0.5


class SoftAttentionDecoder(Decoder):
    """The LSTM decoder with Bahdanau soft attention (arXiv 1409.0473, appendix A.1.2)."""

    def __init__(self, config: SoftAttentionConfig) -> None:
        super().__init__()
        self.config = config
        annotation = config.annotation_size or config.feature_size
        self.annotate = nn.Linear(config.feature_size, annotation) if config.annotation_size else None
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.init_hidden = nn.Linear(annotation, config.hidden_size)
        self.init_cell = nn.Linear(annotation, config.hidden_size)
        self.attend_annotation = nn.Linear(annotation, config.attention_size)  # U_a of the score
        self.attend_hidden = nn.Linear(config.hidden_size, config.attention_size, bias=False)  # W_a
        self.attend_score = nn.Linear(config.attention_size, 1, bias=False)  # v_a
        self.gate = nn.Linear(config.hidden_size, annotation)  # f_beta
        self.lstm = nn.LSTMCell(config.embedding_size + annotation, config.hidden_size)
        self.output_hidden = nn.Linear(config.hidden_size, config.embedding_size)  # L_h
        self.output_context = nn.Linear(annotation, config.embedding_size, bias=False)  # L_z
        self.output_word = nn.Linear(config.embedding_size, config.vocabulary_size)  # L_o
        nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)
        if config.tie_embedding:
            self.output_word.weight = self.embedding.weight

    def start(self, features: Features) -> State:
        annotations = features.values  # (B, P, C)
        if self.annotate is not None:
            annotations = F.dropout(self.annotate(annotations).relu(), self.config.dropout, self.training)
        if features.mask is None:
            mean = annotations.mean(1)
        else:
            weights = features.mask.unsqueeze(-1).to(annotations.dtype)
            mean = (annotations * weights).sum(1) / weights.sum(1).clamp(min=1)
        images = {"annotations": annotations, "keys": _exp2(self.attend_annotation(annotations))}
        if features.mask is not None:
            images["mask"] = features.mask
        rows = {"hidden": self.init_hidden(mean).tanh(), "cell": self.init_cell(mean).tanh()}
        return State(images, rows)

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        hidden, cell = state.rows["hidden"], state.rows["cell"]  # (N, H)
        word = F.dropout(self.embedding(token_ids), self.config.dropout, self.training)  # (N, E)
        context, alphas = self._attend(hidden, state)  # (N, C), (N, P)
        context = self.gate(hidden).sigmoid() * context
        hidden, cell = self.lstm(torch.cat([word, context], -1), (hidden, cell))
        output = word + self.output_hidden(hidden) + self.output_context(context)  # equation 7
        return output, alphas, State(state.images, {"hidden": hidden, "cell": cell})

    def _attend(self, hidden: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """(N, H) -> the attended vector (N, C) and the weights (N, P). Images' tensors are broadcast."""
        annotations, keys = state.images["annotations"], state.images["keys"]  # (B, P, C), (B, P, A)
        batch, places, _ = keys.shape
        query = _exp2(self.attend_hidden(hidden)).view(batch, -1, 1, keys.shape[-1])  # (B, K, 1, A)
        scores = self._scores(keys.unsqueeze(1), query)  # (B, K, P)
        if "mask" in state.images:
            scores = scores.masked_fill(~state.images["mask"].unsqueeze(1), float("-inf"))
        alphas = scores.softmax(-1)
        return (alphas @ annotations).flatten(0, 1), alphas.reshape(-1, places)

    def _scores(self, keys: Tensor, query: Tensor) -> Tensor:
        """e^2k (B, 1, P, A) and e^2q (B, K, 1, A) -> v . tanh(k + q), (B, K, P), but for a constant.

        tanh(k + q) = 1 - 2 / (e^2k e^2q + 1): an exponential a place and one a row, instead of a tanh
        for every pair of them, and the softmax does not see the constant sum of v.
        """
        weight = -2 * self.attend_score.weight[0]
        pairs = query.shape[1] * keys.shape[2] * keys.shape[3]
        # On a CPU as many images at a time as its cache holds.
        images = max(1, _CACHED // pairs) if keys.device.type == "cpu" else len(keys)
        parts = zip(keys.split(images), query.split(images), strict=True)
        return torch.cat([(k * q).add_(1).reciprocal_() @ weight for k, q in parts])

    def logits(self, output: Tensor) -> Tensor:
        return self.output_word(F.dropout(output, self.config.dropout, self.training))


def _exp2(values: Tensor) -> Tensor:
    """e^2x, with x held within 40 of 0, where tanh has long been flat and a product of two is no NaN."""
    return (2 * values).clamp(-80, 80).exp()
