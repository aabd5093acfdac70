"""Show and Tell: the image is the word before the first one.

Vinyals et al., arXiv 1411.4555, section 3.1: x_-1 = CNN(I) (equation 10), x_t = W_e S_t (11),
p_{t+1} = LSTM(x_t) (12), with a vanilla RNN or a GRU in the LSTM's place where one is chosen.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from captionbot.decoders.family import Family
from captionbot.decoders.recurrent import RecurrentConfig, RecurrentDecoder


class ShowAndTellDecoder(RecurrentDecoder):
    """The pooled feature, as wide as a word's embedding, is step 0 of one of PyTorch's cells."""

    cells: ClassVar[dict[str, type[nn.Module]]] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.image = nn.Linear(config.feature_size, config.embedding_size)

    def begin(self, image: Tensor) -> dict[str, Tensor]:
        nothing = self.rows_of(image.new_zeros(len(image), self.config.hidden_size))
        return self.run_cell(self.dropped(self.image(image)), nothing)


FAMILY = Family(
    kind="show-and-tell",
    title="Show and Tell ({cell})",
    decoder=ShowAndTellDecoder,
    config=RecurrentConfig,
)
