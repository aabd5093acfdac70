"""Products x W^T + b of weights that are no parameters, in the forms that are fast on a CPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


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
        operator = torch.ops.mkldnn._linear_pointwise.default
        y: Tensor = operator(x.to(self.dtype), self.packed, self.bias, "none", [], "")
        return y.to(x.dtype)


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
