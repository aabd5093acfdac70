"""A CNN in integers of 8 bits, for hidden copies of a photo, whose maps hardly notice.

On CPUs without VNNI inputs have 7 bits, as products of 8 are added in 16 there. Scales of layers come from
what they give for a few copies of the very photo: its maps depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from captionbot.backends.cpu.cnn import in_pieces, padding_of

_LARGEST = 127  # of the weights' 8 bits
_RELUS = (F.relu, torch.relu)
_POOLS: tuple[Any, ...] = (F.avg_pool2d, F.max_pool2d)

Scales = Mapping[str, float]  # by the name of a layer: what an integer counts for


class IntegerCNN:
    """A CNN of convolutions with a ReLU behind each, poolings and concatenations, such as Inception-v3.

    Raises what `cnn.UNFIT` names where it has another layer, or torch no such operators.
    """

    def __init__(self, cnn: fx.GraphModule) -> None:
        """cnn: in fp32, as it is built. What it is given and all that its layers give is 0 or more."""
        if _engine() not in torch.backends.quantized.supported_engines:
            raise RuntimeError(f"torch has no {_engine()}")
        self.cnn = cnn
        self.packed: dict[str, Any] = {}
        self.pools: dict[tuple[int, ...], Any] = {}  # by channels, kernel, stride and padding
        self.activated: dict[fx.Node, fx.Node] = {}  # each convolution, and the ReLU behind it
        for node in cnn.graph.nodes:
            layer = cnn.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(layer, nn.Conv2d):
                if not (len(node.users) == 1 and next(iter(node.users)).target in _RELUS):
                    raise TypeError(f"{node.name} has no ReLU behind it")
                self.packed[node.name] = _packed(layer)
                self.activated[node] = next(iter(node.users))
            elif node.op in ("placeholder", "output") or node.target in (*_RELUS, *_POOLS, torch.cat):
                continue
            elif not isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
                raise TypeError(f"{node.name} is not for integers")

    def scales(self, x: Tensor, cnn: fx.GraphModule | None = None) -> tuple[Scales, Tensor]:
        """Those of each layer from (B, C, H, W) of what it is given, and what the CNN gives for that.

        cnn: the same CNN in a faster form, whose convolutions may do the ReLU behind them, to run instead.
        """
        runs: list[_Ranges] = []

        def run(some: Tensor) -> Any:
            runs.append(_Ranges(cnn or self.cnn))
            return runs[-1].run(some)

        made, largest = in_pieces(run, x), 255 if _has_vnni() else 127
        scales = {n: max(1e-6, *(run.largest[n] for run in runs)) / largest for n in runs[0].largest}
        return scales | {relu.name: scales[of.name] for of, relu in self.activated.items()}, made

    def __call__(self, x: Tensor, scales: Scales) -> Tensor:
        """(B, C, H, W) -> fp32."""
        found: Tensor = _Integers(self, scales).run(x)
        return found


class _Ranges(fx.Interpreter):
    """Runs a CNN, and notes how large the numbers get that each layer gives."""

    def __init__(self, cnn: fx.GraphModule) -> None:
        super().__init__(cnn)
        self.largest: dict[str, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        made = super().run_node(n)
        if n.target in (*_POOLS, torch.cat):  # these give nothing that they were not given
            self.largest[n.name] = max(self.largest[node.name] for node in n.all_input_nodes)
        else:
            numbers = made.permute(0, 2, 3, 1).flatten()  # torch takes eight times as long in another order
            self.largest[n.name] = numbers.max().item()
        return made


class _Integers(fx.Interpreter):
    def __init__(self, of: IntegerCNN, scales: Scales) -> None:
        super().__init__(of.cnn)
        self.packed, self.pools, self.scales = of.packed, of.pools, scales

    def run_node(self, n: fx.Node) -> Any:
        args = self.fetch_args_kwargs_from_env(n)[0]
        operators: Any = torch.ops.quantized
        if n.op == "placeholder":
            given = super().run_node(n).float()
            return torch.quantize_per_tensor(given, self.scales[n.name], 0, torch.quint8)
        if n.name in self.packed:
            return operators.conv2d_relu(args[0], self.packed[n.name], self.scales[_scaled_by(n)], 0)
        if n.target in _RELUS:  # done by the convolution
            return args[0]
        if n.target is torch.cat:
            return operators.cat(args[0], 1, self.scales[n.name], 0)
        if n.op == "output":
            return args[0].dequantize()
        if (window := _window(n)) is not None and _has_vnni():
            return self._averaged(args[0], *window)
        return super().run_node(n)

    def _averaged(self, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        """Average pooling as a convolution of equal weights: the same integers in half the time."""
        channels = x.shape[1]
        key = channels, kernel, stride, padding
        if key not in self.pools:
            layer = nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False)
            nn.init.constant_(layer.weight, kernel**-2)
            self.pools[key] = _packed(layer)
        pooled: Tensor = torch.ops.quantized.conv2d(x, self.pools[key], x.q_scale(), 0)
        return pooled


def _window(node: fx.Node) -> tuple[int, int, int] | None:
    """Kernel, stride and padding of average pooling that counts the padding in; None of another layer."""
    names = ("input", "kernel_size", "stride", "padding")
    if node.target is not F.avg_pool2d or len(node.args) > len(names) or not node.kwargs.keys() <= {*names}:
        return None
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    window: Any = tuple(given.get(name) for name in names[1:])
    return window if all(isinstance(n, int) for n in window) else None


def _scaled_by(convolution: fx.Node) -> str:
    """Whose scale its numbers have: where they are only concatenated, that of the whole, to be copied."""
    (relu,) = convolution.users
    users = list(relu.users)
    return str(users[0].name if len(users) == 1 and users[0].target is torch.cat else relu.name)


def _packed(layer: nn.Conv2d) -> Any:
    weight = layer.weight.detach().contiguous(memory_format=torch.channels_last)
    scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-12).double() / _LARGEST
    whole = torch.quantize_per_channel(
        weight, scales, torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8
    )
    shape = [[*layer.stride], [*padding_of(layer)], [*layer.dilation], layer.groups]
    bias = None if layer.bias is None else layer.bias.detach()
    with _packing():
        return torch.ops.quantized.conv2d_prepack(whole, bias, *shape)


def _has_vnni() -> bool:
    """Whether products of 8 bits are added in 32."""
    asked: Any = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(asked and asked())


def _engine() -> str:
    return "onednn" if _has_vnni() else "fbgemm"


_lock = Lock()


@contextmanager
def _packing() -> Iterator[None]:
    """An engine of torch packs, one for the whole process; oneDNN's is the faster where there is VNNI."""
    engines: Any = torch.backends.quantized
    with _lock:
        before, engines.engine = engines.engine, _engine()
        try:
            yield
        finally:
            engines.engine = before
