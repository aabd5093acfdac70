"""What decoders share that see the pooled image once, and then carry it in a recurrent cell's state."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from captionbot.decoders.attention import layer_norm, mean_annotation
from captionbot.decoders.base import Decoder, DecoderConfig, State
from captionbot.errors import CaptionBotError
from captionbot.types import Features


@dataclass(frozen=True)
class RecurrentConfig(DecoderConfig):
    """Sizes of the decoder.

    cell: one of the decoder's `cells`.
    normalise: layer norm (arXiv 1607.06450) of the pooled features, so that one learning rate suits
        every encoder: their sizes differ by far between one and another.
    groups: channels of each of several CNNs, whose features are normalised apart; () for all together.
    tie_embedding: the output layer is the embedding's transpose (arXiv 1608.05859), behind a linear
        layer from the hidden size to the embedding's.
    dropout: on image, words and output, in training alone.
    """

    cell: str = "lstm"
    embedding_size: int = 512
    hidden_size: int = 512
    normalise: bool = False
    groups: tuple[int, ...] = ()
    tie_embedding: bool = False


class MaxoutLSTMCell(nn.Module):
    """An LSTM whose candidate is the larger of two, without a tanh (arXiv 1612.00563, section 4).

    i, f, o = sigma(a_1), sigma(a_2), sigma(a_3); c_t = f c_{t-1} + i max(a_4, a_5); h_t = o tanh(c_t), where
    a = W_x x + W_h h + b.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.of_input = nn.Linear(input_size, 5 * hidden_size)
        self.of_hidden = nn.Linear(hidden_size, 5 * hidden_size, bias=False)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor], beside: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """(N, D), ((N, H), (N, H)) -> the next ((N, H), (N, H)); beside: (N, 2 H) added to a_4 and a_5."""
        hidden, cell = state
        sums = self.of_input(x) + self.of_hidden(hidden)
        gates, candidates = sums.split([3 * hidden.shape[1], 2 * hidden.shape[1]], -1)
        i, f, o = gates.sigmoid().chunk(3, -1)
        one, other = (candidates + beside).chunk(2, -1)
        cell = f * cell + i * torch.maximum(one, other)
        return o * cell.tanh(), cell


class RecurrentDecoder(Decoder):
    """A cell that reads one word a step. Its alphas are uniform: it looks at no place in particular.

    cells: classes by name, with the face of PyTorch's own cells: (x, h) -> h, or (x, (h, c)) -> (h, c)
        for an LSTM.
    """

    attends = False
    cells: ClassVar[dict[str, type[nn.Module]]]

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        if config.cell not in self.cells:
            raise CaptionBotError(f"'{config.cell}' is not a cell; choose one of {', '.join(self.cells)}.")
        self.normalise = layer_norm(config) if config.normalise else nn.Identity()
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.cell = self.cells[config.cell](config.embedding_size, config.hidden_size)
        self.output_hidden = (
            nn.Linear(config.hidden_size, config.embedding_size) if config.tie_embedding else nn.Identity()
        )
        width = config.embedding_size if config.tie_embedding else config.hidden_size
        self.output_word = nn.Linear(width, config.vocabulary_size)
        nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)
        if config.tie_embedding:
            self.output_word.weight = self.embedding.weight

    @abstractmethod
    def begin(self, image: Tensor) -> dict[str, Tensor]:
        """(B, C) pooled features -> the cell's state before the first word, as rows of `State`."""

    def start(self, features: Features) -> State:
        image = self.normalise(mean_annotation(features.values, features.mask))  # (B, C)
        return State({"alphas": uniform_alphas(features)}, self.begin(image))

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        rows = self.run_cell(self.read(token_ids, state), state.rows)
        shares = state.images["alphas"]
        alphas = shares.repeat_interleave(len(token_ids) // len(shares), 0)
        return self.output_hidden(self.dropped(rows["hidden"])), alphas, State(state.images, rows)

    def read(self, token_ids: Tensor, state: State) -> Tensor:
        """(N,) ids -> (N, E), what the cell is given of them."""
        return self.dropped(self.embedding(token_ids))

    def logits(self, output: Tensor) -> Tensor:
        logits: Tensor = self.output_word(output)
        return logits

    def run_cell(self, x: Tensor, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of the cell: (N, E) input and its state -> its next state."""
        if "cell" in rows:
            hidden, cell = self.cell(x, (rows["hidden"], rows["cell"]))
            return {"hidden": hidden, "cell": cell}
        return {"hidden": self.cell(x, rows["hidden"])}

    def rows_of(self, hidden: Tensor) -> dict[str, Tensor]:
        """(N, H) hidden state -> the cell's state, with an empty memory where it is an LSTM."""
        rows = {"hidden": hidden}
        if "lstm" in self.config.cell:
            rows["cell"] = hidden.new_zeros(hidden.shape)
        return rows


def uniform_alphas(features: Features) -> Tensor:
    """(B, P) equal weights on an image's real places, 0 on those that only fill up the batch."""
    batch, places, _ = features.values.shape
    if features.mask is None:
        return features.values.new_full((batch, places), 1 / places)
    real = features.mask.to(features.values.dtype)
    return real / real.sum(1, keepdim=True).clamp(min=1)
