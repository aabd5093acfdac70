"""Decoders packed for a CPU: layers swapped for others that give the same from weights in a faster form.

All equations stay in the decoders. Nothing here is for training: packed weights learn nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captionbot.backends.cpu.linear import PackedLinear, Product
from captionbot.backends.cpu.precision import slices_pay
from captionbot.backends.cpu.slices import SlicedLinear, stored_integers
from captionbot.decoders import packers
from captionbot.decoders.from_scratch import PackedLSTMCell, PackedRNNCell
from captionbot.decoders.packing import Matrix, Packers

_SLICES = {torch.float32: 3, torch.bfloat16: 2}  # that what weights of 8 bits are multiplied with is cut into


def pack(module: nn.Module, dtype: torch.dtype) -> Any:
    """A module with packed layers, for inference; its own parts are swapped in place.

    dtype: what is multiplied in. What multiplies by a single row (the scores of attention) stays.
    """
    return _packed(module, CPUPacking(dtype), packers())


@dataclass(frozen=True)
class CPUPacking:
    """Layers by matrices one below the other, in the fastest form for such weights."""

    dtype: torch.dtype

    def __call__(self, *matrices: Matrix) -> Product:
        weights = [matrix.weight.detach() for matrix in matrices]
        bias = None
        if any(matrix.bias is not None for matrix in matrices):
            bias = torch.cat([w.new_zeros(len(w)) if m.bias is None else m.bias.detach()
                              for w, m in zip(weights, matrices, strict=True)])  # fmt: skip

        def joined(parts: Iterable[Tensor]) -> Tensor:
            return torch.cat([part[:, m.start :] for part, m in zip(parts, matrices, strict=True)])

        if _SLICES.get(self.dtype) and slices_pay():
            stored = [found for weight in weights if (found := stored_integers(weight))]
            if len(stored) == len(weights):
                integers, scales = zip(*stored, strict=True)
                return SlicedLinear(joined(integers), torch.cat(scales), bias, _SLICES[self.dtype])
        return PackedLinear(joined(weights), bias, self.dtype)


class PackedGRUCell(nn.Module):
    """PyTorch's gated recurrent unit (arXiv 1406.1078, section 2.3): r and z are gates, n is new.

    r = sigma(W_ir x + W_hr h), z = sigma(W_iz x + W_hz h), n = tanh(W_in x + r (W_hn h)), each with biases;
    h' = n + z (h - n).
    """

    def __init__(self, of_x: nn.Module, of_hidden: nn.Module) -> None:
        super().__init__()
        self.of_x, self.of_hidden = of_x, of_hidden

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(N, D), (N, H) -> (N, H)."""
        size = 2 * hidden.shape[-1]
        x, recurrent = self.of_x(x), self.of_hidden(hidden)
        r, z = (x[:, :size] + recurrent[:, :size]).sigmoid_().chunk(2, -1)
        n = torch.addcmul(x[:, size:], r, recurrent[:, size:]).tanh_()
        return torch.lerp(n, hidden, z)


def _packed(module: nn.Module, packing: CPUPacking, special: Packers) -> nn.Module:
    if packer := special.get(type(module)):
        module = packer(module, packing).train(module.training)
    elif layer := _packed_layer(module, packing):
        return layer
    for name, child in list(module.named_children()):
        if not isinstance(child, Product):
            setattr(module, name, _packed(child, packing, special))
    return module


def _packed_layer(layer: nn.Module, packing: CPUPacking) -> nn.Module | None:
    """A layer of PyTorch's own packed, None where it is another."""
    if isinstance(layer, nn.Linear) and layer.out_features > 1:
        return packing(Matrix.of(layer))
    if isinstance(layer, nn.GRUCell):
        of_x, of_hidden = Matrix(layer.weight_ih, layer.bias_ih), Matrix(layer.weight_hh, layer.bias_hh)
        return PackedGRUCell(packing(of_x), packing(of_hidden))
    if isinstance(layer, nn.RNNCellBase):
        cell = PackedLSTMCell if isinstance(layer, nn.LSTMCell) else PackedRNNCell
        of_x = Matrix(layer.weight_ih, layer.bias_ih + layer.bias_hh)
        return cell(packing(of_x), packing(Matrix(layer.weight_hh)))
    return None
