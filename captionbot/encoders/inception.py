"""Inception-v3 up to its last feature map (arXiv 1512.00567, table 1), the CNN of the captioners that ship.

Layers have torchvision's names, so that its weights load. torchvision's own is not used, as importing
torchvision takes longer than captioning a photo.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAME = "inception_v3"


class _Step(NamedTuple):
    """One convolution of a branch. Those of stride 1 keep the size of the map."""

    name: str
    outputs: int
    kernel: int | tuple[int, int]
    stride: int = 1


# A branch is convolutions one after the other, behind a pooling or not; the last of them may be two side by
# side, which is an inner tuple. A block is branches side by side.
_Branch = tuple["_Step | tuple[_Step, ...] | str", ...]
_AVERAGE, _MAXIMUM = "average", "maximum"
_WIDE, _HIGH = (1, 7), (7, 1)


def _fine(pooled: int) -> tuple[_Branch, ...]:
    """Figure 5 of the paper, with 5 x 5 as it is."""
    return (
        (_Step("branch1x1", 64, 1),),
        (_Step("branch5x5_1", 48, 1), _Step("branch5x5_2", 64, 5)),
        (_Step("branch3x3dbl_1", 64, 1), _Step("branch3x3dbl_2", 96, 3), _Step("branch3x3dbl_3", 96, 3)),
        (_AVERAGE, _Step("branch_pool", pooled, 1)),
    )


def _middle(narrow: int) -> tuple[_Branch, ...]:
    """Figure 6: n x n as n x 1 and 1 x n."""
    kernels: tuple[int | tuple[int, int], ...] = (1, _HIGH, _WIDE, _HIGH)
    double = [_Step(f"branch7x7dbl_{n}", narrow, kernel) for n, kernel in enumerate(kernels, 1)]
    return (
        (_Step("branch1x1", 192, 1),),
        (
            _Step("branch7x7_1", narrow, 1),
            _Step("branch7x7_2", narrow, _WIDE),
            _Step("branch7x7_3", 192, _HIGH),
        ),
        (*double, _Step("branch7x7dbl_5", 192, _WIDE)),
        (_AVERAGE, _Step("branch_pool", 192, 1)),
    )


_COARSE: tuple[_Branch, ...] = (  # figure 7: 3 x 3 as 1 x 3 beside 3 x 1
    (_Step("branch1x1", 320, 1),),
    (_Step("branch3x3_1", 384, 1), (_Step("branch3x3_2a", 384, (1, 3)), _Step("branch3x3_2b", 384, (3, 1)))),
    (
        _Step("branch3x3dbl_1", 448, 1),
        _Step("branch3x3dbl_2", 384, 3),
        (_Step("branch3x3dbl_3a", 384, (1, 3)), _Step("branch3x3dbl_3b", 384, (3, 1))),
    ),
    (_AVERAGE, _Step("branch_pool", 192, 1)),
)
_STEM = (
    "Conv2d_1a_3x3",
    "Conv2d_2a_3x3",
    "Conv2d_2b_3x3",
    "maxpool1",
    "Conv2d_3b_1x1",
    "Conv2d_4a_3x3",
    "maxpool2",
)
_BLOCKS: dict[str, tuple[_Branch, ...]] = {
    "Mixed_5b": _fine(32),
    "Mixed_5c": _fine(64),
    "Mixed_5d": _fine(64),
    "Mixed_6a": (  # figure 10: half the size
        (_Step("branch3x3", 384, 3, 2),),
        (_Step("branch3x3dbl_1", 64, 1), _Step("branch3x3dbl_2", 96, 3), _Step("branch3x3dbl_3", 96, 3, 2)),
        (_MAXIMUM,),
    ),
    "Mixed_6b": _middle(128),
    "Mixed_6c": _middle(160),
    "Mixed_6d": _middle(160),
    "Mixed_6e": _middle(192),
    "Mixed_7a": (
        (_Step("branch3x3_1", 192, 1), _Step("branch3x3_2", 320, 3, 2)),
        (
            _Step("branch7x7x3_1", 192, 1),
            _Step("branch7x7x3_2", 192, _WIDE),
            _Step("branch7x7x3_3", 192, _HIGH),
            _Step("branch7x7x3_4", 192, 3, 2),
        ),
        (_MAXIMUM,),
    ),
    "Mixed_7b": _COARSE,
    "Mixed_7c": _COARSE,
}


class Convolution(nn.Module):
    """A convolution without bias, batch norm and ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | str = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Block(nn.Module):
    """Branches side by side: (B, C, H, W) -> (B, D, H, W), or half as high and wide."""

    def __init__(self, inputs: int, branches: tuple[_Branch, ...]) -> None:
        super().__init__()
        self.branches = branches
        self.outputs = 0
        for branch in branches:
            channels = inputs
            for step in branch:
                if isinstance(step, str):
                    continue
                for part in _parts(step):
                    padding = "same" if part.stride == 1 else 0
                    made = Convolution(channels, part.outputs, part.kernel, part.stride, padding)
                    self.add_module(part.name, made)
                channels = sum(part.outputs for part in _parts(step))
            self.outputs += channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([y for branch in self.branches for y in self._follow(branch, x)], 1)

    def _follow(self, branch: _Branch, x: Tensor) -> list[Tensor]:
        found = [x]
        for step in branch:
            (x,) = found
            if step == _AVERAGE:
                found = [F.avg_pool2d(x, 3, 1, 1)]
            elif step == _MAXIMUM:
                found = [F.max_pool2d(x, 3, 2)]
            else:
                found = [self.get_submodule(part.name)(x) for part in _parts(step)]
        return found


def _parts(step: _Step | tuple[_Step, ...] | str) -> Iterator[_Step]:
    assert not isinstance(step, str)
    yield from (step,) if isinstance(step, _Step) else step


class InceptionV3(nn.Module):
    """(B, 3, H, W) -> (B, 2048, H / 32 - 1, W / 32 - 1), more or less: 8 x 8 places at 299 pixels."""

    def __init__(self) -> None:
        super().__init__()
        stem = (
            Convolution(3, 32, 3, 2),
            Convolution(32, 32, 3),
            Convolution(32, 64, 3, padding=1),
            nn.MaxPool2d(3, 2),
            Convolution(64, 80, 1),
            Convolution(80, 192, 3),
            nn.MaxPool2d(3, 2),
        )
        for name, layer in zip(_STEM, stem, strict=True):
            self.add_module(name, layer)
        channels = 192
        for name, branches in _BLOCKS.items():
            block = Block(channels, branches)
            self.add_module(name, block)
            channels = block.outputs

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def has(layer: str) -> bool:
    """Whether a layer is one of these, or inside one. Those behind them are torchvision's."""
    return layer.split(".")[0] in (*_STEM, *_BLOCKS)
