"""A CNN in 8-bit integers, by oneDNN's convolutions on a CPU: faster than in half precision, and coarser.

Weights have one scale a channel, -127..127, and what lies between layers has one a tensor, 0..255: behind a
ReLU nothing is negative (arXiv 1806.08342, sections 2.1 and 3.1). Scales come from the largest values that
some photos gave, measured once (`training.compress.export --photos`) and kept in the captioner's card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

_LARGEST, _MIDDLE = 255, 128
_KEPT = 0.8  # of the largest value: the few that lie above it are cut off, so that all others are finer


@torch.inference_mode()
def largest_values(cnn: fx.GraphModule, photos: Iterable[Tensor]) -> dict[str, float]:
    """The largest value behind each convolution's ReLU, and of the pixels, by the names of the nodes.

    photos: batches (B, 3, H, W) of normalised pixels.
    """
    watch = _Watch(cnn)
    for batch in photos:
        watch.run(batch.contiguous(memory_format=torch.channels_last))
    return watch.largest


class _Watch(fx.Interpreter):
    """Runs a CNN and looks at the pixels and at what its ReLUs give."""

    def __init__(self, cnn: fx.GraphModule) -> None:
        super().__init__(cnn)
        self.largest: dict[str, float] = {}

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        if node.op == "placeholder" or convolution_before(self.module, node):  # type: ignore[arg-type]
            largest = value.abs().amax().item()
            self.largest[node.name] = max(self.largest.get(node.name, 0.0), largest)
        return value


def int8_cnn(
    cnn: fx.GraphModule, largest: Mapping[str, float], sizes: Mapping[nn.Module, list[int]]
) -> fx.GraphModule:
    """A CNN whose convolutions with ReLUs, pooling and concatenation are in 8 bits, and the rest in fp32.

    The result is fp32.

    largest: as of `largest_values`. sizes: (B, C, H, W) that each convolution is given.
    """
    scales = _scales(cnn, largest)
    parts: dict[str, nn.Module] = {}
    graph = fx.Graph()
    whole: dict[fx.Node, fx.Node] = {}  # nodes of the CNN -> those that give their values as uint8
    real: dict[fx.Node, fx.Node] = {}  # ... and as they are

    def call(layer: nn.Module, *inputs: Any, **options: Any) -> fx.Node:
        parts[f"part{len(parts)}"] = layer
        return graph.call_module(f"part{len(parts) - 1}", inputs, options)

    def as_real(node: fx.Node) -> fx.Node:
        if node not in real:
            real[node] = call(Real(scales[node]), whole[node])
        return real[node]

    for node in cnn.graph.nodes:
        convolution = convolution_before(cnn, node)
        if node.op == "placeholder":
            real[node] = graph.node_copy(node)
            if node in scales:
                whole[node] = call(Rounded(scales[node], _MIDDLE), real[node])
        elif node not in scales:
            real[node] = graph.node_copy(node, as_real)
            if node.op == "call_module":
                parts[str(node.target)] = cnn.get_submodule(str(node.target))
        elif convolution is not None and convolution.args[0] in scales:
            (source,), layer = convolution.all_input_nodes, cnn.get_submodule(str(convolution.target))
            assert isinstance(layer, nn.Conv2d)
            zero = _MIDDLE if source.op == "placeholder" else 0
            small = Int8Conv2d(layer, scales[source], scales[node], zero, sizes[layer])
            whole[node] = call(small, whole[source])
        elif convolution is not None:
            whole[node] = call(Rounded(scales[node], 0), graph.node_copy(node, as_real))
        elif node.target is torch.cat:
            whole[node] = graph.node_copy(node, whole.__getitem__)
        else:
            source, *rest = node.args
            whole[node] = call(Int8Pool(_pool(cnn, node)), whole[source], *rest, **node.kwargs)  # type: ignore[index]
    packed = fx.GraphModule(parts, graph)
    packed.graph.eliminate_dead_code()  # convolutions that stand there in 8 bits too
    packed.delete_all_unused_submodules()
    packed.recompile()
    return packed


def _scales(cnn: fx.GraphModule, largest: Mapping[str, float]) -> dict[fx.Node, float]:
    """What 1 stands for in each node whose values are to be 8 bits; those that are concatenated share it."""
    heads: dict[fx.Node, fx.Node] = {}  # each such node -> the one that stands for all that share its scale
    most: dict[fx.Node, float] = {}
    scales: dict[fx.Node, float] = {}
    for node in cnn.graph.nodes:
        sources = node.all_input_nodes
        if node.op == "placeholder" and node.name in largest:
            scales[node] = 2 * max(largest[node.name], 1e-6) / _LARGEST
        elif node.name in largest and convolution_before(cnn, node):
            heads[node], most[node] = node, _KEPT * largest[node.name]
        elif (node.target is torch.cat or _pool(cnn, node)) and all(source in heads for source in sources):
            joined = {heads[source] for source in sources}
            head = heads[sources[0]]
            most[head] = max(most[one] for one in joined)
            heads |= {member: head for member, one in heads.items() if one in joined} | {node: head}
    return scales | {node: max(most[head], 1e-6) / _LARGEST for node, head in heads.items()}


def convolution_before(cnn: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The convolution that a node is the ReLU of, None where the node is something else."""
    is_layer = node.op == "call_module" and isinstance(cnn.get_submodule(str(node.target)), nn.ReLU)
    if not (is_layer or node.target in (F.relu, torch.relu, torch.relu_, "relu", "relu_")):
        return None
    before = node.args[0]
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return None
    return before if isinstance(cnn.get_submodule(str(before.target)), nn.Conv2d) else None


def _pool(cnn: fx.GraphModule, node: fx.Node) -> Any:
    """The pooling layer or function that a node calls, None where it is something else."""
    if node.op == "call_module":
        layer = cnn.get_submodule(str(node.target))
        return layer if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)) else None
    return node.target if node.target in (F.max_pool2d, F.avg_pool2d) else None


class Int8Conv2d(nn.Module):
    """relu(W * x + b) of 8-bit x and W, rounded to 8 bits again: (B, C, H, W) -> (B, D, H', W'), uint8."""

    def __init__(
        self, layer: nn.Conv2d, scale: float, out_scale: float, zero: int, input_size: list[int]
    ) -> None:
        """scale, out_scale: what 1 stands for in x and in the result; zero: what stands for 0 in x."""
        super().__init__()
        self.given, self.out_scale = (scale, zero), out_scale
        weight = layer.weight.detach().float()
        self.bias = None if layer.bias is None else layer.bias.detach().float()
        self.weight_scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / 127
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        whole = (weight / self.weight_scales.view(-1, 1, 1, 1)).round().to(torch.int8)
        self.shape: list[Any] = [list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups]
        self.packed: Tensor = torch.ops.onednn.qconv_prepack(
            whole, self.weight_scales, *self.given, *self.shape, input_size
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.packed, self.weight_scales, self.zeros, self.bias
        result: tuple[Any, ...] = (self.out_scale, 0, torch.uint8, "relu", [], "")
        y: Tensor = torch.ops.onednn.qconv2d_pointwise(x, *self.given, *weights, *self.shape, *result)
        return y


class Rounded(nn.Module):
    """Real numbers -> uint8 in which 1 stands for `scale` and `zero` for 0."""

    def __init__(self, scale: float, zero: int) -> None:
        super().__init__()
        self.scale, self.zero = scale, zero

    def forward(self, x: Tensor) -> Tensor:
        return torch.quantize_per_tensor(x.float(), self.scale, self.zero, torch.quint8).int_repr()


class Real(nn.Module):
    """uint8 in which 1 stands for `scale` -> fp32."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x.float() * self.scale


class Int8Pool(nn.Module):
    """A pooling layer's function on uint8, which PyTorch knows for its own quantised tensors alone."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        quantised = torch._make_per_tensor_quantized_tensor(x, 1.0, 0)
        pooled: Tensor = self.pool(quantised, *args, **kwargs)
        return pooled.int_repr()
