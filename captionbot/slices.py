"""Products with the integers that weights are stored as, as exact as in fp32 and with a quarter to read.

What is multiplied is cut into slices of 8 bits, as many as fp32 has, and integers are multiplied with
integers without any rounding: the Ozaki scheme on integer units (arXiv 2306.11975, section 3). Here one
factor, the weights, has a single slice. A search of one photo is bound by reading its weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SLICES, _BASE, _LARGEST = 3, 254, 127  # the half of a base is again at most the largest
_ZERO = 128  # what stands for 0: without AMX, oneDNN is fast for unsigned integers alone
_ROWS = 256  # at a time, whose slices a core's own cache holds
_FEW = 2**18  # numbers of a result up to which all slices are one product, and with more one after the other


def stored_integers(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """(E, D) int8 and (E,) fp32 scales whose product a matrix is, as `card.unpack` makes them; None if none.

    Whoever stored it brought the largest number of each row to 127.
    """
    largest = weight.abs().amax(1, keepdim=True)
    scale = (largest / _LARGEST).clamp(min=1e-30)
    whole = (weight / scale).round()
    if ((whole * scale - weight).abs() > 1e-6 * largest).any():
        return None
    return whole.to(torch.int8), scale.squeeze(1)


class Sliced:
    """x W^T + b by oneDNN's products of 8-bit integers, which it has on CPUs with VNNI or AMX.

    Raises AttributeError or RuntimeError where torch has no such product.
    """

    def __init__(self, whole: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """whole: (E, D) int8. scale: (E,) fp32. bias: (E,)."""
        self.whole, self.scale, self.bias = whole, scale, bias
        self.packed: Tensor = torch.ops.onednn.qlinear_prepack(whole, None)
        self.zeros = torch.zeros(len(whole), dtype=torch.int32)

    @property
    def weight(self) -> Tensor:
        """(E, D) fp32."""
        return self.whole * self.scale.unsqueeze(1)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., E)."""
        rows = x.reshape(-1, x.shape[-1])
        parts = [self._of(some) for some in rows.split(_ROWS)]
        y = parts[0] if len(parts) == 1 else torch.cat(parts)
        return y.view(*x.shape[:-1], -1)

    def _of(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N, E)."""
        size = rows.abs().amax(1, keepdim=True).clamp_(min=1e-30)
        left = rows * (_LARGEST / size)
        slices = left.new_empty(_SLICES, *left.shape)
        torch.round(left, out=slices[0])
        for i in range(1, _SLICES):
            left.sub_(slices[i - 1]).mul_(_BASE)
            torch.round(left, out=slices[i])
        y = self._product(slices.add_(_ZERO).to(torch.uint8))
        size /= _LARGEST
        return y.mul_(size) if self.bias is None else torch.addcmul(self.bias, y, size)

    def _product(self, slices: Tensor) -> Tensor:
        """(S, N, D) uint8 -> (N, E)."""
        count, rows, _ = slices.shape
        if rows * len(self.whole) <= _FEW:
            parts = self._multiply(slices.flatten(0, 1), 1.0).view(count, rows, -1)
            y = parts[0]
            for i in range(1, count):
                y = y.add(parts[i], alpha=_BASE**-i)
            return y
        y = self._multiply(slices[-1], _BASE ** -(count - 1))  # the smallest first
        for i in reversed(range(count - 1)):
            y = self._multiply(slices[i], float(_BASE**-i), y)
        return y

    def _multiply(self, whole: Tensor, factor: float, added: Tensor | None = None) -> Tensor:
        """(N, D) uint8 -> (N, E): times W and a factor, into what it is added to, if anything."""
        operator = torch.ops.onednn.qlinear_pointwise
        given = (whole, factor, _ZERO, self.packed, self.scale, self.zeros)
        form = (1.0, 0, torch.float32)
        if added is None:
            return operator.default(*given, None, *form, "none", [], "")  # type: ignore[no-any-return]
        return operator.binary(*given, added, None, *form, 1.0, 0, "sum", 1.0, "none", [], "")  # type: ignore[no-any-return]
