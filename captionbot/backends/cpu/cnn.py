"""A CNN packed for a CPU: oneDNN's own layouts of convolutions, and half precision."""

from __future__ import annotations

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


class PackedConv2d(nn.Module):
    """A convolution, and the ReLU behind it where there is one, with weights in oneDNN's layout.

    It gives what it multiplies in, so that layer after layer stays in half precision. There is no gradient.
    """

    def __init__(
        self,
        layer: nn.Conv2d,
        dtype: torch.dtype,
        relu: bool = False,
        input_size: Sequence[int] | None = None,
    ) -> None:
        """input_size: (B, C, H, W) that its layout shall suit."""
        super().__init__()
        self.dtype, self.attribute = dtype, "relu" if relu else "none"
        self.kernel_size, self.padding, self.stride = layer.kernel_size, layer.padding, layer.stride
        self.dilation, self.out_channels = layer.dilation, layer.out_channels
        self.shape: list[Any] = [layer.padding, layer.stride, layer.dilation, layer.groups]
        # In bfloat16 a bias would be off by the same at every place, which is worse than what varies.
        finer = torch.float32 if dtype == torch.bfloat16 else dtype
        self.bias = None if layer.bias is None else layer.bias.detach().to(finer)
        weight = layer.weight.detach().to(dtype).to_mkldnn()
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.packed: Tensor = reorder(weight, *self.shape, input_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W') in the layer's own precision."""
        operator = torch.ops.mkldnn._convolution_pointwise.default
        y: Tensor = operator(x.to(self.dtype), self.packed, self.bias, *self.shape, self.attribute, [], "")
        return y


class PackedEncoder:
    """An encoder whose CNN is packed, for what it is called with, in less than fp32; it gives fp32.

    oneDNN's layout of a convolution suits a number of photos and, for a single one, of threads. For others it
    is rearranged at every call, which takes longer than the CNN itself, so that each gets a copy of its own.

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
        features: Features = self._packed(pixel_values)(pixel_values)
        if not features.values.isfinite().all():
            features = self.encoder(pixel_values)
        return features

    def for_many(self, pixel_values: Tensor) -> nn.Module:
        """The packed encoder for many photos at once, without a look at what half precision cannot hold."""
        return self._packed(pixel_values[:1].expand(_MANY, -1, -1, -1))

    def _packed(self, pixel_values: Tensor) -> nn.Module:
        many = len(pixel_values) >= _MANY
        key = 0 if many else torch.get_num_threads()
        with self._lock:
            if key not in self.packed:
                batch = 2 * _MANY if many else 1
                self.packed[key] = packed_encoder(self.encoder, self.dtype, pixel_values[:1], batch)
            return self.packed[key]


def packed_encoder(encoder: nn.Module, dtype: torch.dtype, pixel_values: Tensor, batch: int = 1) -> nn.Module:
    """An encoder with the same weights whose CNN is packed, and gives fp32; the encoder itself where the
    CNN has layers that do not go with that.

    pixel_values: (1, 3, H, W) of any photo, to try it with. batch: photos at once that it shall be fast for.
    """
    try:
        with torch.inference_mode():
            sizes = _input_sizes(encoder, pixel_values, batch)
            twin = with_cnns(encoder, lambda grid: _packed_cnn(grid.cnn, dtype, sizes))
            twin(pixel_values)
    except (AttributeError, RuntimeError, TypeError):
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
    """A CNN's graph with its convolutions and linear layers packed, each with the ReLU behind it."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(cnn.graph, {}))
    packed = fx.GraphModule(cnn, graph)
    nodes = list(packed.graph.nodes)
    relus = {_convolution_before(packed, node): node for node in nodes}
    for node in nodes:
        layer = packed.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d):
            relu = relus.get(node)
            packed.set_submodule(node.target, PackedConv2d(layer, dtype, relu is not None, sizes.get(layer)))
            if relu:
                relu.replace_all_uses_with(node)
                packed.graph.erase_node(relu)
        elif isinstance(layer, nn.Linear):
            packed.set_submodule(node.target, PackedLinear(layer.weight, layer.bias, dtype))
    packed.recompile()
    return packed


def _convolution_before(cnn: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The convolution that a node is the ReLU of, None where the node is something else."""
    is_layer = node.op == "call_module" and isinstance(cnn.get_submodule(str(node.target)), nn.ReLU)
    if not (is_layer or node.target in (F.relu, torch.relu, torch.relu_, "relu", "relu_")):
        return None
    before = node.args[0]
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return None
    return before if isinstance(cnn.get_submodule(str(before.target)), nn.Conv2d) else None
