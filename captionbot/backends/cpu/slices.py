"""Products with the integers that weights are stored as, as exact as in fp32 and with a quarter to read.

What is multiplied is cut into slices of 8 bits, as many as fp32 has (or two, twice what bfloat16 has), and
integers are multiplied with integers without any rounding: the Ozaki scheme on integer units (arXiv
2306.11975, section 3). Here one factor, the weights, has a single slice. A search of one photo is bound by
reading its weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captionbot.backends.cpu.linear import Product

_LARGEST = 127
# By how many slices there are. Numbers between 2**23 and 2**24 in fp32 are whole, and their lower bytes are
# the digits of what they have more than 2**23.
# What stands for 0 in a slice: without AMX, oneDNN is fast for unsigned integers alone.
_ZERO = {2: 128, 3: 64}
_STEPS = {2: 32_600, 3: 4_177_000}  # that a row's largest number is cut into, as many as the bytes hold
_SHIFT = {n: torch.tensor(float(2**23 + zero * sum(256**i for i in range(n)))) for n, zero in _ZERO.items()}
_DIGITS = {n: torch.arange(0, 8 * n, 8, dtype=torch.int32).view(-1, 1, 1) for n in _ZERO}  # where each begins
_LEAST = torch.tensor(1e-37)  # of a step, as 0 / 0 is no number
_NUMBERS = 1 << 17  # at a time, whose slices a core's own cache holds
_OUTPUTS = 8192  # at a time, whose products a cache holds until they are added


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


def cut(rows: Tensor, count: int = 3) -> tuple[Tensor, Tensor]:
    """(N, D) -> slices (count, N, D) uint8, the finest first, and (N, 1) what the finest counts in.

    Adding is all that cuts. Each slice counts in 256 times as much as the one before.
    count: 3, as fine as fp32, or 2.
    """
    step = torch.add(_LEAST, rows.abs().amax(1, keepdim=True), alpha=1 / _STEPS[count])
    whole = (rows / step).add_(_SHIFT[count]).view(torch.int32)
    return (whole >> _DIGITS[count]).to(torch.uint8), step


class SlicedLinear(Product):
    """A product by the integers that its weights are stored as; oneDNN has such where CPUs have VNNI or AMX.

    Raises AttributeError or RuntimeError where torch has no such product.
    """

    def __init__(self, whole: Tensor, scale: Tensor, bias: Tensor | None, slices: int = 3) -> None:
        """whole: (E, D) int8. scale: (E,) fp32. bias: (E,). slices: as of `cut`."""
        super().__init__()
        self.slices = slices
        self.whole, self.scale, self.bias = whole, scale, bias
        self.blocks: list[tuple[Tensor, Tensor, Tensor]] = [
            (
                torch.ops.onednn.qlinear_prepack(rows, None),
                own,
                torch.zeros(len(rows), dtype=torch.int32),
            )
            for rows, own in zip(whole.split(_OUTPUTS), scale.split(_OUTPUTS), strict=True)
        ]

    @property
    def weight(self) -> Tensor:
        return self.whole * self.scale.unsqueeze(1)

    def product(self, x: Tensor) -> Tensor:
        rows = x.float().reshape(-1, x.shape[-1])
        parts = rows.split(max(1, _NUMBERS // rows.shape[1]))
        return _joined([self._of(some) for some in parts], 0).view(*x.shape[:-1], -1).to(x.dtype)

    def _of(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N, E)."""
        slices, step = cut(rows, self.slices)
        y = _joined([self._multiply(slices, *block) for block in self.blocks], 1)
        return y.mul_(step) if self.bias is None else torch.addcmul(self.bias, y, step, out=y)

    def _multiply(self, slices: Tensor, packed: Tensor, scale: Tensor, zeros: Tensor) -> Tensor:
        """(S, N, D) uint8 -> (N, E'), by a block of the weights."""
        count, rows, _ = slices.shape
        given = (slices.flatten(0, 1), 256.0 ** (count - 1), _ZERO[count], packed, scale, zeros)
        operator = torch.ops.onednn.qlinear_pointwise.default
        products: Tensor = operator(*given, None, 1.0, 0, torch.float32, "none", [], "")
        y: Tensor
        *finer, y = products.split(rows)
        for i, part in enumerate(reversed(finer), 1):
            y = y.add_(part, alpha=2.0 ** (-8 * i))
        return y


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
