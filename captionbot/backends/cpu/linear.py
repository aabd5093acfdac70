"""Products x W^T + b of weights that are no parameters, in the forms that are fast on a CPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 256  # at a time in fp32: of more, oneDNN is slower on CPUs with AVX2


class Product(nn.Module, ABC):
    """x W^T + b, with the gradient of x; it has the face of `nn.Linear`."""

    bias: Tensor | None  # (E,)

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """(E, D) fp32, made anew each time."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., E)."""
        if x.requires_grad and torch.is_grad_enabled():
            product: Tensor = _WithGradient.apply(x, self)  # type: ignore[no-untyped-call]
            return product
        return self.product(x)

    @abstractmethod
    def product(self, x: Tensor) -> Tensor:
        """`forward` without a gradient."""


class PackedLinear(Product):
    """A linear layer with W in oneDNN's layout; fp32 in and out, whatever it multiplies in."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.dtype = dtype
        with torch.no_grad():
            self.bias = None if bias is None else bias.detach().to(dtype)
            self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype))

    @property
    def weight(self) -> Tensor:
        return self.packed.to_dense().float()

    def product(self, x: Tensor) -> Tensor:
        rows = x.to(self.dtype).reshape(-1, x.shape[-1])
        parts = max(1, -(-len(rows) // _ROWS)) if self.dtype == torch.float32 else 1
        found = [self._of(some) for some in rows.tensor_split(parts)]
        y = found[0] if len(found) == 1 else torch.cat(found)
        return y.view(*x.shape[:-1], -1).to(x.dtype)

    def _of(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N, E)."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, self.packed, self.bias, "none", [], "")
        return y


class _WithGradient(torch.autograd.Function):
    """A `Product` with the gradient of what goes in: explanations ask for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Product) -> Tensor:
        ctx.layer = layer
        return layer.product(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.weight.to(gradient.dtype), None
