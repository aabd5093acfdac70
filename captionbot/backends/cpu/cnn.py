"""A CNN packed for a CPU: oneDNN's own layouts of convolutions, and half precision."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from captionbot.backends.cpu.linear import PackedLinear
from captionbot.encoders.grid import with_cnns
from captionbot.types import Features

_MANY = 8  # photos at once from which on one layout suits all numbers of them and of threads
_CLIPPED = ("hardtanh", (0.0, 6.0))
_ACTIVATIONS: dict[Any, tuple[str, tuple[float, ...]]] = {  # by layer or function: oneDNN's name, and numbers
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"), ("relu", ())),
    **dict.fromkeys((nn.ReLU6, F.relu6), _CLIPPED),
    **dict.fromkeys((nn.SiLU, F.silu), ("swish", ())),
    **dict.fromkeys((nn.Hardswish, F.hardswish), ("hardswish", ())),
}
UNFIT = (AttributeError, RuntimeError, TypeError)  # of layers that are not for packing, or of operators
_SUMS = (operator.add, operator.iadd, torch.add)


class PackedConv2d(nn.Module):
    """A convolution with weights in oneDNN's layout, and what follows it: a sum, an activation.

    It gives what it multiplies in, so that layer after layer stays in half precision. There is no gradient.
    """

    def __init__(
        self,
        layer: nn.Conv2d,
        dtype: torch.dtype,
        activation: tuple[str, tuple[float, ...]] = ("none", ()),
        input_size: Sequence[int] | None = None,
    ) -> None:
        """activation: one of `_ACTIVATIONS`. input_size: (B, C, H, W) that its layout shall suit."""
        super().__init__()
        self.dtype, (self.activation, self.numbers) = dtype, activation
        self.kernel_size, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation
        self.padding, self.out_channels = padding_of(layer), layer.out_channels
        self.shape: list[Any] = [self.padding, layer.stride, layer.dilation, layer.groups]
        # In bfloat16 a bias would be off by the same at every place, which is worse than what varies.
        finer = torch.float32 if dtype == torch.bfloat16 else dtype
        self.bias = None if layer.bias is None else layer.bias.detach().to(finer)
        weight = layer.weight.detach().to(dtype).to_mkldnn()
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.packed: Tensor = reorder(weight, *self.shape, input_size)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W') in the layer's own precision.

        other: (B, D, H', W') that is added before the activation.
        """
        x, weights, operators = x.to(self.dtype), (self.packed, self.bias), torch.ops.mkldnn
        y: Tensor
        if other is None:
            simple = operators._convolution_pointwise.default
            y = simple(x, *weights, *self.shape, self.activation, self.numbers, "")
        else:
            after = (None if self.activation == "none" else self.activation, self.numbers, "")
            summed = operators._convolution_pointwise.binary
            y = summed(x, other.to(self.dtype), *weights, *self.shape, "add", 1.0, *after)
        return y


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
    """An encoder whose CNN is packed; it gives fp32, whatever that computes in.

    In half precision oneDNN's layout of a convolution suits a number of photos and, for a single one, of
    threads. For others it is rearranged at every call, which takes longer than the CNN itself, so that each
    gets a copy of its own. In fp32 one layout suits all.

    encoder: keeps its weights and gradients, and does what half precision cannot: photos whose numbers are
        too large for it, and CNNs with layers that do not go with that.
    dtype: of the CNN.
    """

    def __init__(self, encoder: nn.Module, dtype: torch.dtype) -> None:
        self.encoder, self.dtype = encoder, dtype
        self.packed: dict[int, nn.Module] = {}
        self._lock = Lock()

    def __call__(self, pixel_values: Tensor) -> Features:
        """(B, 3, H, W) -> the encoder's own features, but for rounding."""
        packed = self._packed(pixel_values)
        try:
            features: Features = packed(pixel_values)
        except UNFIT:
            features = self.encoder(pixel_values)  # which raises where the photos are at fault
            self.packed = dict.fromkeys(self.packed, self.encoder)
        if not features.values.isfinite().all():
            features = self.encoder(pixel_values)
        return features

    def for_many(self, pixel_values: Tensor) -> nn.Module:
        """The packed encoder for many photos at once, without a look at what half precision cannot hold."""
        return self._packed(pixel_values[:1].expand(_MANY, -1, -1, -1))

    def _packed(self, pixel_values: Tensor) -> nn.Module:
        half = self.dtype != torch.float32
        many = not half or len(pixel_values) >= _MANY
        key = 0 if many else torch.get_num_threads()
        with self._lock:
            if key not in self.packed:
                batch, tried = 2 * _MANY if many else 1, pixel_values[:1] if half else None
                self.packed[key] = packed_encoder(self.encoder, self.dtype, tried, batch)
            return self.packed[key]


def packed_encoder(
    encoder: nn.Module, dtype: torch.dtype, pixel_values: Tensor | None = None, batch: int = 1
) -> nn.Module:
    """An encoder with the same weights whose CNN is packed, and gives fp32; the encoder itself where the
    CNN has layers that do not go with that.

    pixel_values: (1, 3, H, W) of any photo, to try it with, and to lay its weights out for photos of its
        size; None to save that time, where any layout will do. batch: photos at once, of that layout.
    """
    try:
        with torch.inference_mode():
            sizes = {} if pixel_values is None else _input_sizes(encoder, pixel_values, batch)
            twin = with_cnns(encoder, lambda grid: _packed_cnn(grid.cnn, dtype, sizes))
            if pixel_values is not None:
                twin(pixel_values)
    except UNFIT:
        return encoder
    return twin


def _input_sizes(encoder: nn.Module, pixel_values: Tensor, batch: int) -> dict[nn.Module, list[int]]:
    """(B, C, H, W) of what each convolution is given."""
    sizes: dict[nn.Module, list[int]] = {}

    def note(layer: nn.Module, given: tuple[Tensor]) -> None:
        sizes[layer] = [batch, *given[0].shape[1:]]

    hooks = [m.register_forward_pre_hook(note) for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    try:
        encoder(pixel_values)
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


def _packed_cnn(
    cnn: fx.GraphModule, dtype: torch.dtype, sizes: Mapping[nn.Module, list[int]]
) -> fx.GraphModule:
    """A CNN's graph with its convolutions and linear layers packed, each with what follows it."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(cnn.graph, {}))
    packed = fx.GraphModule(cnn, graph)
    for node in list(packed.graph.nodes):
        layer = packed.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d):
            activation = _take_in(packed, node)
            made = PackedConv2d(layer, dtype, activation or ("none", ()), sizes.get(layer))
            packed.set_submodule(node.target, made)
        elif isinstance(layer, nn.Linear):
            packed.set_submodule(node.target, PackedLinear(layer.weight, layer.bias, dtype))
    packed.recompile()
    return packed


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
