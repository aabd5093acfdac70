"""EfficientNet-Lite 0 to 4 up to their last feature map: small CNNs without squeeze-and-excitation.

Tan and Le, arXiv 1905.11946, as Google published them for phones: ReLU6 everywhere, and TensorFlow's padding,
which depends on the photo's size. Layers have timm's names, so that weights of `tf_efficientnet_lite0` load,
but batch norms and activations are layers of their own, as `encoders.grid` needs them.
"""

from __future__ import annotations

import math

from torch import Tensor, fx, nn
from torch.nn import functional as F

SCALES = {  # of widths and of depths
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
    "efficientnet_lite3": (1.2, 1.4),
    "efficientnet_lite4": (1.4, 1.8),
}
STAGES = (  # blocks, kernel, stride of the first, expansion, width: table 1 of the paper
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280  # widths that the Lite versions do not scale, as the depths of the first and last stage


class SamePad2d(nn.Module):
    """TensorFlow's padding "same": as many outputs as inputs / stride, an odd pixel goes right and below."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation

    def pads(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pixels above and below, and left and right, of what is so large."""
        sizes = zip((height, width), self.kernel, self.stride, self.dilation, strict=True)
        above, left = (
            max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            for size, kernel, stride, dilation in sizes
        )
        return (above // 2, above - above // 2), (left // 2, left - left // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H + pad, W + pad), which the convolution is given without padding."""
        rows, columns = self.pads(x.shape[-2], x.shape[-1])
        return F.pad(x, [*columns, *rows])


class Block(nn.Module):
    """An inverted residual (arXiv 1801.04381): widen, convolve channel by channel, and narrow again."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        if expansion > 1:
            self.conv_pw, self.bn1 = _convolution(inputs, inner, 1), _norm(inner)
            self.wide_act = nn.ReLU6(inplace=True)
        depthwise, norm = _convolution(inner, inner, kernel, stride, inner), _norm(inner)
        narrow, last = _convolution(inner, outputs, 1), _norm(outputs)
        self.conv_dw_pad = SamePad2d(depthwise) if stride > 1 else nn.Identity()
        self.conv_dw = depthwise
        if expansion > 1:
            self.bn2, self.conv_pwl, self.bn3 = norm, narrow, last
        else:  # timm's names in a block that does not widen
            self.bn1, self.conv_pw, self.bn2 = norm, narrow, last
        self.act = nn.ReLU6(inplace=True)
        self.expands = expansion > 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H / stride, W / stride)."""
        if self.expands:
            wide = self.wide_act(self.bn1(self.conv_pw(x)))
            y = self.bn3(self.conv_pwl(self.act(self.bn2(self.conv_dw(self.conv_dw_pad(wide))))))
        else:
            y = self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(self.conv_dw_pad(x))))))
        found: Tensor = x + y if self.residual else y
        return found


class EfficientNetLite(nn.Module):
    """(B, 3, H, W) -> (B, 1280, H / 32, W / 32), sides rounded up."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        width, depth = SCALES[architecture]
        self.conv_stem, self.bn1 = _convolution(3, STEM, 3, 2), _norm(STEM)
        self.conv_stem_pad, self.act1 = SamePad2d(self.conv_stem), nn.ReLU6(inplace=True)
        channels, stages = STEM, []
        for number, (count, kernel, stride, expansion, outputs) in enumerate(STAGES):
            scaled = 0 < number < len(STAGES) - 1
            outputs, blocks = rounded(outputs * width), []
            for i in range(math.ceil(count * depth) if scaled else count):
                blocks.append(Block(channels, outputs, kernel, 1 if i else stride, expansion))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(channels, HEAD, 1)
        self.bn2 = _norm(HEAD)
        self.act2 = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv_stem(self.conv_stem_pad(x))))
        found: Tensor = self.act2(self.bn2(self.conv_head(self.blocks(x))))
        return found


class _Tracer(fx.Tracer):
    """Takes the padding as one layer: what it does depends on the photo."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SamePad2d) or super().is_leaf_module(m, module_qualified_name)


def trace(cnn: nn.Module) -> fx.GraphModule:
    """Its graph, layer by layer."""
    return fx.GraphModule(cnn, _Tracer().trace(cnn))


def rounded(width: float) -> int:
    """To a multiple of 8, but never down by more than a tenth."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    padding = kernel // 2 if stride == 1 else 0  # of a stride, `SamePad2d` pads
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # TensorFlow's
