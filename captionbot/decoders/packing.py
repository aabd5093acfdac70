"""How a decoder tells a backend which products it could share, without a word of who multiplies, or in what.

A backend that packs weights looks up a family's packers (`Family.packers`): each makes of one kind of module
another that gives the same, from layers that the backend's `Packing` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Matrix(NamedTuple):
    """What a layer multiplies by: (E, D) weights, the columns from `start` on its own, and an (E,) bias."""

    weight: Tensor
    bias: Tensor | None = None
    start: int = 0

    @classmethod
    def of(cls, layer: nn.Linear) -> Matrix:
        return cls(layer.weight, layer.bias)


class Packing(Protocol):
    @property
    def dtype(self) -> torch.dtype:
        """What is multiplied in."""

    def __call__(self, *matrices: Matrix) -> nn.Module:
        """A layer x -> x W^T + b, for inference, by matrices that lie one below the other."""


Packer = Callable[[Any, Packing], nn.Module]
Packers = Mapping[type[nn.Module], Packer]
"""Of modules of exactly that type."""
