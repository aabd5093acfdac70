"""Captioning with recurrent cells whose every equation is written out, as in Stanford's CS231n.

The pooled feature is mapped to the hidden state before the first word: h_0 = W_proj x + b_proj.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from captionbot.decoders.family import Family
from captionbot.decoders.packing import Matrix, Packer, Packing
from captionbot.decoders.recurrent import RecurrentConfig, RecurrentDecoder


class _ScratchCell(nn.Module):
    """Weights of the affine map W_x x + W_h h + b that both cells begin with; one bias is enough."""

    gates: ClassVar[int]

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        bound = hidden_size**-0.5
        self.weight_x = nn.Parameter(
            torch.empty(self.gates * hidden_size, input_size).uniform_(-bound, bound)
        )
        self.weight_h = nn.Parameter(
            torch.empty(self.gates * hidden_size, hidden_size).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.zeros(self.gates * hidden_size))

    def affine(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(N, D), (N, H) -> (N, gates * H)."""
        return x @ self.weight_x.T + hidden @ self.weight_h.T + self.bias


class ScratchRNNCell(_ScratchCell):
    """Elman's cell: h_t = tanh(W_x x_t + W_h h_{t-1} + b)."""

    gates = 1

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(N, D), (N, H) -> (N, H)."""
        return self.affine(x, hidden).tanh()


class ScratchLSTMCell(_ScratchCell):
    """Long short-term memory (arXiv 1409.2329, section 3.1), gates in PyTorch's order i, f, g, o.

    i = sigma(a_i), f = sigma(a_f), g = tanh(a_g), o = sigma(a_o);
    c_t = f c_{t-1} + i g; h_t = o tanh(c_t). (Equation 8 of arXiv 1411.4555 leaves out this last tanh.)
    """

    gates = 4

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(N, D), ((N, H), (N, H)) -> the next ((N, H), (N, H))."""
        hidden, cell = state
        return remember(self.affine(x, hidden), cell)


def remember(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 4 H) gates before their activations and (N, H) memory -> the next hidden state and memory."""
    i, f, g, o = gates.chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


class ScratchRecurrentDecoder(RecurrentDecoder):
    """The vanilla RNN or the LSTM, written out, begun from the image."""

    cells: ClassVar[dict[str, type[nn.Module]]] = {"rnn": ScratchRNNCell, "lstm": ScratchLSTMCell}

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.image = nn.Linear(config.feature_size, config.hidden_size)

    def begin(self, image: Tensor) -> dict[str, Tensor]:
        return self.rows_of(self.image(self.dropped(image)))


class _PackedCell(nn.Module):
    """W_x x + W_h h + b by two layers that a backend made."""

    def __init__(self, of_x: nn.Module, of_hidden: nn.Module) -> None:
        nn.Module.__init__(self)  # the cell would make weights of its own
        self.of_x, self.of_hidden = of_x, of_hidden

    def affine(self, x: Tensor, hidden: Tensor) -> Tensor:
        sums: Tensor = self.of_x(x) + self.of_hidden(hidden)
        return sums


class PackedRNNCell(_PackedCell, ScratchRNNCell):
    """Elman's cell."""


class PackedLSTMCell(_PackedCell, ScratchLSTMCell):
    """Long short-term memory."""


def _packer(packed: type[_PackedCell]) -> Packer:
    def pack(cell: _ScratchCell, packing: Packing) -> nn.Module:
        return packed(packing(Matrix(cell.weight_x, cell.bias)), packing(Matrix(cell.weight_h)))

    return pack


_SMALL = {"embedding_size": 256, "hidden_size": 512, "normalise": True, "dropout": 0.0}
FAMILY = Family(
    kind="scratch-recurrent",
    title="{cell} from scratch",
    decoder=ScratchRecurrentDecoder,
    config=RecurrentConfig,
    packers={ScratchRNNCell: _packer(PackedRNNCell), ScratchLSTMCell: _packer(PackedLSTMCell)},
    small={"rnn": {"cell": "rnn", **_SMALL}, "lstm": {"cell": "lstm", **_SMALL}},
)
