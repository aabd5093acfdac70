"""8-bit weights of a CNN that give the features of before, for photos.

Rounding to the nearest integer is best for each weight by itself, not for their sums: here each weight makes
good what the rounding of those before it changed (GPTQ, arXiv 2210.17323, sections 3.1 and 3.3).

Axes: R output channels, K = input channels x kernel, what each of them sums over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from captionbot.store import card as cards

_PATCHES = 2500  # of a photo at most, drawn by chance: neighbours are much alike
_DAMPING = 0.01  # of the mean of the Hessian's diagonal
_COLUMNS = 128  # rounded before the others hear of it, all at once


@torch.inference_mode()
def round_cnn(cnn: fx.GraphModule, photos: Iterable[Tensor], storage: str) -> None:
    """Put weights into a CNN that `card.pack` stores as they are, layer by layer from the pixels on.

    photos: (1, 3, H, W) each, normalised as the CNN expects them.
    """
    _Rounding(cnn, storage).run(torch.cat(list(photos)))


class _Rounding(fx.Interpreter):
    """Runs a CNN, and rounds each convolution for what the rounded ones before it give."""

    def __init__(self, cnn: fx.GraphModule, storage: str) -> None:
        super().__init__(cnn)
        self.storage, self.generator = storage, torch.Generator().manual_seed(0)

    def run_node(self, node: fx.Node) -> Any:
        layer = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        if (
            isinstance(layer, nn.Conv2d)
            and layer.groups == 1
            and cards.is_rounded(layer.weight, self.storage)
        ):
            (x,), _ = self.fetch_args_kwargs_from_env(node)
            layer.weight.copy_(rounded(layer.weight, self._hessian(layer, x)))
        return super().run_node(node)

    def _hessian(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        """(K, K): half the second derivatives of a channel's squared error by its weights."""
        shape = {name: getattr(layer, name) for name in ("dilation", "padding", "stride")}
        hessian = torch.zeros(2 * [layer.weight[0].numel()])
        for photo in x.split(1):
            patches = F.unfold(photo.contiguous(), layer.kernel_size, **shape)[0].T  # type: ignore[arg-type]
            if len(patches) > _PATCHES:
                patches = patches[torch.randperm(len(patches), generator=self.generator)[:_PATCHES]]
            hessian += patches.T @ patches
        return hessian


def rounded(weight: Tensor, hessian: Tensor) -> Tensor:
    """(R, ...) weights near to the given ones that are whole multiples of `card.scales`.

    hessian: (K, K), the sum of x x^T over what the layer is given.
    """
    rows = weight.flatten(1)
    scale = cards.by_number(cards.scales(weight).float(), rows)
    size = len(hessian)
    damped = hessian.double() + _DAMPING * hessian.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse, upper=True).float()
    left, chosen = rows.clone(), torch.zeros_like(rows)
    for start in range(0, size, _COLUMNS):
        end = min(start + _COLUMNS, size)
        errors = torch.zeros(len(rows), end - start)
        for i in range(start, end):
            whole = (left[:, i] / scale[:, i]).round().clamp(-127, 127)
            # what a scale is of stays, so that `card.pack` finds this scale again
            whole = torch.where(rows[:, i].abs() > 126.5 * scale[:, i], 127 * rows[:, i].sign(), whole)
            chosen[:, i] = whole * scale[:, i]
            errors[:, i - start] = (left[:, i] - chosen[:, i]) / factor[i, i]
            left[:, i + 1 : end] -= errors[:, i - start, None] * factor[i, i + 1 : end]
        left[:, end:] -= errors @ factor[start:end, end:]
    return chosen.view_as(weight)
