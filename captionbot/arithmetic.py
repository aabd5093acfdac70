"""How a loaded captioner multiplies: oneDNN's own layouts, integers, and half precision, where a measurement
shows that they pay.

Layers are swapped for others that give the same numbers, and all equations stay where they are, in the
decoders and encoders. Nothing here is for training: packed weights learn nothing. torch's oneDNN operators
are not public, so whatever goes wrong with them means to do without.
"""

from __future__ import annotations

import copy
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from captionbot.decoders.from_scratch import ScratchLSTMCell, ScratchRNNCell
from captionbot.decoders.gpt2_prefix import Unembedding
from captionbot.decoders.soft_attention import SoftAttentionDecoder
from captionbot.encoders import GridEncoder
from captionbot.errors import CaptionBotError
from captionbot.int8 import convolution_before, int8_cnn
from captionbot.slices import Sliced, stored_integers
from captionbot.types import Features

_Module = TypeVar("_Module", bound=nn.Module)
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
PRECISIONS = ("auto", "float32", "half", *HALVES, "int8")
VARIABLE = "CAPTIONBOT_PRECISION"
_MANY = 8  # photos at once from which on one layout suits all numbers of them and of threads
_HALF_PAYS = 1.3  # how much faster a CNN must be in half precision for its rounding to be worth it


@dataclass(frozen=True)
class Arithmetic:
    """What an encoder and a decoder are packed to on a CPU; None leaves them as they are.

    int8: the encoder's CNN is in 8-bit integers as far as it goes, and the rest of it in `encoder`.
    """

    encoder: torch.dtype | None = None
    decoder: torch.dtype | None = None
    int8: bool = False


def choose(precision: str) -> Arithmetic:
    """What this CPU computes with.

    precision: "float32"; "half" for the fast mode, encoder and decoder in the finest half precision that the
        CPU multiplies in, or "float16" or "bfloat16" for one of them; or "auto": words are chosen in float32,
        and photos encoded in half precision where that is at least 1.3 times as fast. "int8" is "auto" with
        the photos encoded in 8-bit integers.
    Raises CaptionBotError for another precision, or one that this CPU does not know.
    """
    if precision not in PRECISIONS:
        raise CaptionBotError(f"'{precision}' is not a precision; choose one of {', '.join(PRECISIONS)}.")
    if not torch.backends.mkldnn.is_available():
        return Arithmetic()
    dtype = HALVES.get(precision, half())
    if precision in HALVES or precision == "half":
        if dtype is None or (dtype == torch.float16 and not _knows_float16()):
            raise CaptionBotError(
                f"This CPU does not multiply in {precision} precision; choose auto or float32."
            )
        return Arithmetic(dtype, dtype)
    cnn_gains, linear_gains = _gains(dtype)
    decoder = torch.float32 if linear_gains > 1 or slices_pay() else None
    if precision == "int8":
        return Arithmetic(dtype or torch.float32, decoder, int8=True)
    return Arithmetic(dtype if precision == "auto" and cnn_gains > _HALF_PAYS else None, decoder)


def asked_for(otherwise: str) -> str:
    """The precision that the environment's CAPTIONBOT_PRECISION names, or another where it says nothing."""
    return os.environ.get(VARIABLE) or otherwise


def half() -> torch.dtype | None:
    """The half precision that the CPU multiplies in itself; elsewhere it is emulated, slower than fp32.

    float16 before bfloat16: it rounds eight times as finely and is as fast. Its largest number is 65,504,
    which a CNN's features seldom reach; `HalfEncoder` looks after that.
    """
    if _knows_float16():
        return torch.float16
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.12 and later
    return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else None


def _knows_float16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    except (AttributeError, RuntimeError):
        return False


@cache
def _gains(half: torch.dtype | None) -> tuple[float, float]:
    """How many times as fast a convolution is in half precision, and a linear layer packed in fp32.

    Some 50 ms, once a process. The least of several short runs, so that a busy machine hardly matters.
    """
    with torch.inference_mode():
        layer = nn.Conv2d(192, 192, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        photo = torch.randn(1, 192, 17, 17).contiguous(memory_format=torch.channels_last)
        wide, rows = nn.Linear(512, 4096), torch.randn(5, 512)
        try:
            linear = _seconds(wide, rows) / _seconds(PackedLinear(wide.weight, wide.bias), rows)
            if half is None:
                return 0.0, linear
            return _seconds(layer, photo) / _seconds(PackedConv2d(layer, half), photo), linear
        except (AttributeError, RuntimeError):  # an operator is gone, or is another one
            return 0.0, 0.0


@cache
def slices_pay() -> bool:
    """Whether weights that are stored in 8 bits are multiplied faster as integers, and as exactly as in fp32.

    Older CPUs add products of 8 bits in 16, which is too little for the largest ones. The weights are too
    many for a core's own cache, as those of a decoder are.
    """
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(5, 2048, generator=generator).clamp(max=1)  # many of the largest
        exact = 127 * rows.double().sum(1, keepdim=True)
        try:
            for size, least in ((64, 0.01), (2048, 1)):  # a few first: there are CPUs that take seconds
                whole = torch.full((size, 2048), 127, dtype=torch.int8)
                sliced = Sliced(whole, torch.ones(size), None)
                if (sliced(rows) - exact).abs().max() > 1e-5 * exact.abs().max():
                    return False
                if _seconds(PackedLinear(sliced.weight), rows) < least * _seconds(sliced, rows):
                    return False
            return True
        except (AttributeError, RuntimeError):
            return False


def _seconds(run: Callable[[Tensor], Tensor], x: Tensor) -> float:
    taken = []
    for _ in range(6):
        start = time.perf_counter()
        run(x)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])  # the first one sets things up


class _Linear(nn.Module, ABC):
    """x W^T + b of weights that are no parameters, with the gradient of x."""

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """(E, D) fp32, made anew each time."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., E)."""
        if x.requires_grad and torch.is_grad_enabled():
            return _WithGradient.apply(x, self)
        return self.product(x)

    @abstractmethod
    def product(self, x: Tensor) -> Tensor:
        """`forward` without a gradient."""


class SlicedLinear(_Linear):
    """A linear layer by the integers that its weights are stored as: `slices.Sliced`."""

    def __init__(self, whole: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.sliced = Sliced(whole, scale, bias)

    @property
    def weight(self) -> Tensor:
        return self.sliced.weight

    def product(self, x: Tensor) -> Tensor:
        return self.sliced(x.float()).to(x.dtype)


class PackedLinear(_Linear):
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
    """The product of a `_Linear`, with the gradient of what goes in: explanations ask for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: _Linear) -> Tensor:
        ctx.layer = layer
        return layer.product(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.weight.to(gradient.dtype), None


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
        self.shape: list[Any] = [layer.padding, layer.stride, layer.dilation, layer.groups]
        self.bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        weight = layer.weight.detach().to(dtype).to_mkldnn()
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.packed: Tensor = reorder(weight, *self.shape, input_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W') in the layer's own precision."""
        operator = torch.ops.mkldnn._convolution_pointwise.default
        y: Tensor = operator(x.to(self.dtype), self.packed, self.bias, *self.shape, self.attribute, [], "")
        return y


def linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, start: int = 0) -> _Linear:
    """A linear layer in the fastest form for its weights.

    start: the column of (E, D) weights from which on they are its own.
    """
    weight = weight.detach()
    stored = stored_integers(weight) if dtype == torch.float32 and slices_pay() else None
    if stored is None:
        return PackedLinear(weight[:, start:], bias, dtype)
    whole, scale = stored
    return SlicedLinear(whole[:, start:].contiguous(), scale, None if bias is None else bias.detach())


class _PackedCell(nn.Module):
    """W_x x + W_h h + b of a recurrent cell."""

    def __init__(self, cell: nn.Module, dtype: torch.dtype, start: int = 0) -> None:
        """start: the place in x from which on the cell is given it."""
        nn.Module.__init__(self)  # the scratch cell would make weights of its own
        (of_x, of_hidden), bias = _affine(cell)
        self.of_x, self.of_hidden = linear(of_x, bias, dtype, start), linear(of_hidden, None, dtype)

    def affine(self, x: Tensor, hidden: Tensor) -> Tensor:
        return self.of_x(x).add_(self.of_hidden(hidden))


class PackedRNNCell(_PackedCell, ScratchRNNCell):
    """Elman's cell."""


class PackedLSTMCell(_PackedCell, ScratchLSTMCell):
    """Long short-term memory."""

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor], more: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """more: (N, 4 H) to be added to the gates: what is known of them without a product."""
        hidden, cell = state
        gates = self.affine(x, hidden)
        return self.remember(gates if more is None else gates + more, cell)


class PackedGRUCell(nn.Module):
    """PyTorch's gated recurrent unit (arXiv 1406.1078, section 2.3): r and z are gates, n is new.

    r = sigma(W_ir x + W_hr h), z = sigma(W_iz x + W_hz h), n = tanh(W_in x + r (W_hn h)), each with biases;
    h' = n + z (h - n).
    """

    def __init__(self, cell: nn.GRUCell, dtype: torch.dtype) -> None:
        super().__init__()
        self.of_x = linear(cell.weight_ih, cell.bias_ih, dtype)
        self.of_hidden = linear(cell.weight_hh, cell.bias_hh, dtype)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(N, D), (N, H) -> (N, H)."""
        size = 2 * hidden.shape[-1]
        x, recurrent = self.of_x(x), self.of_hidden(hidden)
        r, z = (x[:, :size] + recurrent[:, :size]).sigmoid_().chunk(2, -1)
        n = torch.addcmul(x[:, size:], r, recurrent[:, size:]).tanh_()
        return torch.lerp(n, hidden, z)


def _affine(cell: nn.Module) -> tuple[list[Tensor], Tensor]:
    """W_x and W_h, and the sum of the biases."""
    if isinstance(cell, nn.RNNCellBase):
        return [cell.weight_ih, cell.weight_hh], cell.bias_ih + cell.bias_hh
    return [cell.weight_x, cell.weight_h], cell.bias  # type: ignore[list-item, return-value]


def pack(module: _Module, dtype: torch.dtype) -> _Module:
    """A module's layers with matrices swapped, in place, for ones that are packed; returns the module.

    What multiplies by a single row (the scores of attention) stays, and so does a module on other devices.
    """
    if isinstance(module, SoftAttentionDecoder):
        _tabulate_words(module, dtype)
    for name, child in list(module.named_children()):
        setattr(module, name, _packed(child, dtype) or pack(child, dtype))
    return module


def _tabulate_words(decoder: SoftAttentionDecoder, dtype: torch.dtype) -> None:
    """Work out what each word adds to the LSTM's gates, and leave it the rest of its input, the context.

    A step then reads a row a hypothesis instead of the embedding's share of the weights.
    """
    words = decoder.embedding.weight.detach()
    size = words.shape[1]
    decoder.word_gates = F.linear(words, decoder.lstm.weight_ih.detach()[:, :size])
    decoder.lstm = PackedLSTMCell(decoder.lstm, dtype, size)  # type: ignore[assignment]


def _packed(layer: nn.Module, dtype: torch.dtype) -> nn.Module | None:
    if isinstance(layer, _PackedCell):  # is a scratch cell too
        return layer
    if isinstance(layer, nn.Linear):
        return linear(layer.weight, layer.bias, dtype) if layer.out_features > 1 else None
    if isinstance(layer, Unembedding):
        return linear(layer.weight, None, dtype)
    if isinstance(layer, (nn.LSTMCell, ScratchLSTMCell)):
        return PackedLSTMCell(layer, dtype)
    if isinstance(layer, (nn.RNNCell, ScratchRNNCell)):
        return PackedRNNCell(layer, dtype)
    return PackedGRUCell(layer, dtype) if isinstance(layer, nn.GRUCell) else None


class PackedEncoder:
    """An encoder whose CNN is packed, for what it is called with, in less than fp32; it gives fp32.

    oneDNN's layout of a convolution suits a number of photos and, for a single one, of threads. For others it
    is rearranged at every call, which takes longer than the CNN itself, so that each gets a copy of its own.

    encoder: keeps its weights and gradients, and does what half precision cannot: photos whose numbers are
        too large for it, and CNNs with layers that do not go with that.
    dtype: of the CNN, or of what is left of it where `largest` has its ranges for `int8.int8_cnn`.
    """

    def __init__(
        self, encoder: nn.Module, dtype: torch.dtype, largest: Mapping[str, float] | None = None
    ) -> None:
        self.encoder, self.dtype, self.largest = encoder, dtype, largest
        self.packed: dict[int, nn.Module] = {}
        self._lock = Lock()

    def __call__(self, pixel_values: Tensor) -> Features:
        """(B, 3, H, W) -> the encoder's own features, but for rounding."""
        features: Features = self._packed(pixel_values)(pixel_values)
        if not features.values.isfinite().all():
            features = self.encoder(pixel_values)
        return features

    def _packed(self, pixel_values: Tensor) -> nn.Module:
        many = len(pixel_values) >= _MANY
        key = 0 if many else torch.get_num_threads()
        with self._lock:
            if key not in self.packed:
                batch = 2 * _MANY if many else 1
                self.packed[key] = packed_encoder(
                    self.encoder, self.dtype, pixel_values[:1], batch, self.largest
                )
            return self.packed[key]


def packed_encoder(
    encoder: nn.Module,
    dtype: torch.dtype,
    pixel_values: Tensor,
    batch: int = 1,
    largest: Mapping[str, float] | None = None,
) -> nn.Module:
    """An encoder with the same weights whose CNN is packed, and gives fp32; the encoder itself where the
    CNN has layers that do not go with that.

    pixel_values: (1, 3, H, W) of any photo, to try it with. batch: photos at once that it shall be fast for.
    largest: what `int8.int8_cnn` takes the scales of 8-bit integers from; None for none.
    """
    try:
        with torch.inference_mode():
            sizes = _input_sizes(encoder, pixel_values, batch)
            twin = _with_packed_grids(
                encoder, partial(_packed_cnn, dtype=dtype, sizes=sizes, largest=largest)
            )
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


def _with_packed_grids(module: nn.Module, packed: Callable[[fx.GraphModule], fx.GraphModule]) -> nn.Module:
    """The module itself where there is no CNN in it, else a copy that shares all other parts with it.

    packed: makes of a CNN a packed one.
    """
    if not any(isinstance(part, GridEncoder) for part in module.modules()):
        return module
    twin = copy.copy(module)
    if isinstance(module, GridEncoder):
        twin._modules = dict(module._modules) | {"cnn": packed(module.cnn)}
    else:
        twin._modules = {
            name: child and _with_packed_grids(child, packed) for name, child in module._modules.items()
        }
    return twin


def _packed_cnn(
    cnn: fx.GraphModule,
    dtype: torch.dtype,
    sizes: Mapping[nn.Module, list[int]],
    largest: Mapping[str, float] | None = None,
) -> fx.GraphModule:
    """A CNN's graph with its convolutions and linear layers packed, each with the ReLU behind it."""
    if largest:
        cnn = int8_cnn(cnn, largest, sizes)
    graph = fx.Graph()
    graph.output(graph.graph_copy(cnn.graph, {}))
    packed = fx.GraphModule(cnn, graph)
    nodes = list(packed.graph.nodes)
    relus = {convolution_before(packed, node): node for node in nodes}
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
