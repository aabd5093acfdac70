"""Show and Tell: the image is the word before the first one.

Vinyals et al., arXiv 1411.4555, section 3.1: x_-1 = CNN(I) (equation 10), x_t = W_e S_t (11),
p_{t+1} = LSTM(x_t) (12), with a vanilla RNN or a GRU in the LSTM's place where one is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from captionbot.decoders.attention import mean_annotation
from captionbot.decoders.base import State
from captionbot.decoders.family import Family
from captionbot.decoders.recurrent import (
    MaxoutLSTMCell,
    RecurrentConfig,
    RecurrentDecoder,
    uniform_alphas,
)
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features


@dataclass(frozen=True)
class ShowAndTellConfig(RecurrentConfig):
    """image_starts: the image stands in the place of the start token, instead of before it."""

    image_starts: bool = False


class ShowAndTellDecoder(RecurrentDecoder):
    """The pooled feature, as wide as a word's embedding, is step 0 of a cell of PyTorch, or a maxout LSTM."""

    cells: ClassVar[dict[str, type[nn.Module]]] = {
        "rnn": nn.RNNCell,
        "lstm": nn.LSTMCell,
        "gru": nn.GRUCell,
        "maxout-lstm": MaxoutLSTMCell,
    }

    def __init__(self, config: ShowAndTellConfig) -> None:
        super().__init__(config)
        self.image = nn.Linear(config.feature_size, config.embedding_size)

    def start(self, features: Features) -> State:
        if not self.config.image_starts:
            return super().start(features)
        image = self.image(self.normalise(mean_annotation(features.values, features.mask)))
        nothing = image.new_zeros(len(image), self.config.hidden_size)
        return State(
            {"alphas": uniform_alphas(features), "image": self.dropped(image)}, self.rows_of(nothing)
        )

    def begin(self, image: Tensor) -> dict[str, Tensor]:
        nothing = self.rows_of(image.new_zeros(len(image), self.config.hidden_size))
        return self.run_cell(self.dropped(self.image(image)), nothing)

    def read(self, token_ids: Tensor, state: State) -> Tensor:
        words = super().read(token_ids, state)
        if not self.config.image_starts:
            return words
        image = state.images["image"].repeat_interleave(len(token_ids) // len(state.images["image"]), 0)
        return torch.where((token_ids == Vocabulary.bos_id).unsqueeze(1), image, words)


FAMILY = Family(
    kind="show-and-tell",
    title="Show and Tell ({cell})",
    decoder=ShowAndTellDecoder,
    config=ShowAndTellConfig,
)
