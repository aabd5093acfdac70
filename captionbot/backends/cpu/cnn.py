"""A CNN packed for a CPU: oneDNN's own layouts of convolutions, and half precision."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from captionbot.backends.cpu.linear import PackedLinear
from captionbot.backends.cpu.threads import side_by_side
from captionbot.encoders.efficientnet_lite import SamePad2d
from captionbot.encoders.grid import with_cnns
from captionbot.types import Features

_PIECE = 4  # photos at once: of more, what layers give is no longer in a cache, and memory is asked for anew
_CLIPPED = ("hardtanh", (0.0, 6.0))
_ACTIVATIONS: dict[Any, tuple[str, tuple[float, ...]]] = {  # by layer or function: oneDNN's name, and numbers
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"), ("relu", ())),
    **dict.fromkeys((nn.ReLU6, F.relu6), _CLIPPED),
    **dict.fromkeys((nn.SiLU, F.silu), ("swish", ())),
    **dict.fromkeys((nn.Hardswish, F.hardswish), ("hardswish", ())),
}
_Pads = tuple[tuple[int, int], tuple[int, int]]  # above and below, left and right
_Packed = tuple[Tensor, list[Any]]  # weights, and how they are slid over a photo
UNFIT = (AttributeError, RuntimeError, TypeError)  # of layers that are not for packing, or of operators
_SUMS = (operator.add, operator.iadd, torch.add)


class PackedConv2d(nn.Module):
    """A convolution with weights in oneDNN's layout, the padding before it, the sum and activation behind it.

    It gives what it multiplies in, so that layer after layer stays in half precision. There is no gradient.

    The layout suits the size of what it is first given, and where that is one photo a number of threads; one
    layout suits all numbers of several photos. Weights in another layout would be rearranged at every call,
    which can take longer than the convolution itself, so that each gets a copy of its own.
    """

    def __init__(
        self,
        layer: nn.Conv2d,
        dtype: torch.dtype,
        activation: tuple[str, tuple[float, ...]] = ("none", ()),
        same: SamePad2d | None = None,
    ) -> None:
        """activation: one of `_ACTIVATIONS`. same: a layer before it that pads, to be done as well."""
        super().__init__()
        self.dtype, (self.activation, self.numbers) = dtype, activation
        self.kernel_size, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation
        self.padding, self.groups, self.out_channels = padding_of(layer), layer.groups, layer.out_channels
        # In bfloat16 a bias would be off by the same at every place, which is worse than what varies.
        finer = torch.float32 if dtype == torch.bfloat16 else dtype
        self.bias = None if layer.bias is None else layer.bias.detach().to(finer)
        self.bias_of_sum = (
            None if self.bias is None else self.bias.to(dtype)
        )  # oneDNN takes no finer one there
        self.same = same
        self.layer = [layer]  # in a list, to be no part of this module
        self.packed: dict[tuple[int, _Pads | None], _Packed] = {}  # by threads, 0 for any number of them

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W') in the layer's own precision.

        other: (B, D, H', W') that is added before the activation.
        """
        x, operators = x.to(self.dtype), torch.ops.mkldnn
        threads = torch.get_num_threads() if len(x) == 1 else 1
        pads = self.same.pads(x.shape[-2], x.shape[-1]) if self.same is not None else None
        key = threads if threads > 1 else 0, pads
        if key not in self.packed:
            self.packed[key] = self._pack([len(x) if key[0] else _PIECE, *x.shape[1:]], pads)
        packed, shape = self.packed[key]
        y: Tensor
        if other is None:
            simple = operators._convolution_pointwise.default
            y = simple(x, packed, self.bias, *shape, self.activation, self.numbers, "")
        else:
            after = (None if self.activation == "none" else self.activation, self.numbers, "")
            summed = operators._convolution_pointwise.binary
            y = summed(x, other.to(self.dtype), packed, self.bias_of_sum, *shape, "add", 1.0, *after)
        return y

    def _pack(self, input_size: list[int], pads: _Pads | None) -> _Packed:
        """The weights in the layout for (B, C, H, W), and how they are slid over that.

        pads: of which oneDNN's operators know only the same number on both sides. One pixel less before than
            behind is the same on both with a kernel that has one row or column more, of zeros.
        """
        weight, padding = self.layer[0].weight.detach(), self.padding
        if pads is not None:
            (above, below), (left, right) = pads
            weight, padding = F.pad(weight, [right - left, 0, below - above, 0]), (below, right)
        shape: list[Any] = [padding, self.stride, self.dilation, self.groups]
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        return reorder(weight.to(self.dtype).to_mkldnn(), *shape, input_size), shape


def padding_of(layer: nn.Conv2d) -> tuple[int, ...]:
    """Rows and columns on either side. Raises TypeError where they are no zeros, or differ by side."""
    if layer.padding_mode != "zeros":
        raise TypeError(f"oneDNN pads with zeros, not {layer.padding_mode}")
    if not isinstance(layer.padding, str):
        return tuple(layer.padding)
    left, right, top, bottom = layer._reversed_padding_repeated_twice  # of "same" or "valid"
    if left != right or top != bottom:
        raise TypeError("a convolution of even size pads more on one side")
    return top, left


class PackedEncoder:
    """An encoder whose CNNs are packed; it gives fp32, whatever they compute in.

    encoder: keeps its weights and gradients, and does what half precision cannot: photos whose numbers are
        too large for it, and CNNs with layers that do not go with that.
    dtype: of the CNNs.
    """

    def __init__(self, encoder: nn.Module, dtype: torch.dtype) -> None:
        self.encoder, self.dtype = encoder, dtype
        self.packed = packed_encoder(encoder, dtype)

    def __call__(self, pixel_values: Tensor) -> Features:
        """(B, 3, H, W) -> the encoder's own features, but for rounding."""
        try:
            features: Features = self.packed(pixel_values)
        except UNFIT:
            features = self.encoder(pixel_values)  # which raises where the photos are at fault
            self.packed = self.encoder
        if not (features.values.sum().isfinite() or features.values.isfinite().all()):  # one pass, not four
            features = self.encoder(pixel_values)
        return features


def packed_encoder(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    """An encoder with the same weights whose CNNs are packed, and gives fp32; the encoder itself where they
    have layers that do not go with that."""
    try:
        return with_cnns(encoder, lambda grid: PackedCNN(_packed_cnn(grid.cnn, dtype)))
    except UNFIT:
        return encoder


class PackedCNN(nn.Module):
    """A CNN of packed layers, which sees a few photos at a time."""

    def __init__(self, layers: fx.GraphModule) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, rows, columns)."""
        return in_pieces(self.layers, pixel_values)


def in_pieces(cnn: Callable[[Tensor], Tensor], x: Tensor, most: int = _PIECE) -> Tensor:
    """What a CNN gives for (B, C, H, W), on a CPU for some of them at a time, a thread each."""
    if not x.is_cpu or len(x) == 1:
        return cnn(x)
    threads = torch.get_num_threads()
    count = min(threads * math.ceil(len(x) / (threads * most)), len(x))
    return torch.cat(side_by_side(cnn, x.tensor_split(count)))


def _packed_cnn(cnn: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    """A CNN's graph with its convolutions and linear layers packed, each with what follows it."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(cnn.graph, {}))
    packed = fx.GraphModule(cnn, graph)
    for node in list(packed.graph.nodes):
        layer = packed.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d):
            same, activation = _take_in_pad(packed, node), _take_in(packed, node)
            packed.set_submodule(node.target, PackedConv2d(layer, dtype, activation or ("none", ()), same))
        elif isinstance(layer, nn.Linear):
            packed.set_submodule(node.target, PackedLinear(layer.weight, layer.bias, dtype))
    packed.recompile()
    return packed


def _take_in_pad(cnn: fx.GraphModule, convolution: fx.Node) -> SamePad2d | None:
    """Let a convolution do the padding before it; None for none."""
    before = convolution.all_input_nodes[0]
    pad = cnn.get_submodule(str(before.target)) if before.op == "call_module" else None
    if not isinstance(pad, SamePad2d) or set(pad.dilation) != {1} or _only_user(before) is None:
        return None
    convolution.replace_input_with(before, before.all_input_nodes[0])
    cnn.graph.erase_node(before)
    return pad


def _take_in(cnn: fx.GraphModule, convolution: fx.Node) -> tuple[str, tuple[float, ...]] | None:
    """Let a convolution do the sum and the activation behind it; the activation, None for none."""
    if (total := _only_user(convolution)) is not None and total.target in _SUMS:
        others = [given for given in total.args if isinstance(given, fx.Node) and given is not convolution]
        if len(total.args) == 2 and len(others) == 1 and others[0] < convolution:  # worked out before
            convolution.args = (*convolution.args, others[0])
            _replace(cnn, total, convolution)
    follower = _only_user(convolution)
    if follower is None:
        return None
    kind: Any = follower.target
    if follower.op == "call_module":
        kind = type(cnn.get_submodule(str(kind)))
    activation = _ACTIVATIONS.get(kind)
    if activation is not None:
        _replace(cnn, follower, convolution)
    return activation


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _replace(cnn: fx.GraphModule, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    cnn.graph.erase_node(node)
