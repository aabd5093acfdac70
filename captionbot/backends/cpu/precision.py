"""What a loaded captioner multiplies in: oneDNN's layouts, integers, half precision, where a measurement
shows that they pay; and decoders packed for it.

Layers are swapped for others that give the same numbers, and all equations stay where they are, in the
decoders. Nothing here is for training: packed weights learn nothing. torch's oneDNN operators are not
public, so whatever goes wrong with them means to do without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.backends.cpu.cnn import PackedConv2d
from captionbot.backends.cpu.linear import PackedLinear, Part, Product
from captionbot.backends.cpu.slices import SlicedLinear, stored_integers
from captionbot.decoders.from_scratch import ScratchLSTMCell, ScratchRNNCell
from captionbot.decoders.gpt2_prefix import Unembedding
from captionbot.decoders.soft_attention import SoftAttentionDecoder
from captionbot.decoders.transformer import ScratchTransformerLayer
from captionbot.errors import CaptionBotError

_Module = TypeVar("_Module", bound=nn.Module)
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
PRECISIONS = ("auto", "float32", "half", *HALVES, "int8")
VARIABLE = "CAPTIONBOT_PRECISION"
_SLICES = {torch.float32: 3, torch.bfloat16: 2}  # that what weights of 8 bits are multiplied with is cut into
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
    precision = known(precision)
    if not torch.backends.mkldnn.is_available():
        return Arithmetic()
    dtype = HALVES.get(precision, half())
    if precision in HALVES or precision == "half":
        if dtype is None or not knows(dtype):
            raise CaptionBotError(
                f"This CPU does not multiply in {precision} precision; choose auto or float32."
            )
        return Arithmetic(dtype, dtype)
    cnn_gains, linear_gains = _gains(dtype)
    decoder = torch.float32 if linear_gains > 1 or slices_pay() else None
    if precision == "int8":
        return Arithmetic(dtype or torch.float32, decoder, int8=True)
    return Arithmetic(dtype if precision == "auto" and cnn_gains > _HALF_PAYS else None, decoder)


def known(precision: str) -> str:
    """The precision itself; CaptionBotError where there is none of that name."""
    if precision not in PRECISIONS:
        raise CaptionBotError(f"'{precision}' is not a precision; choose one of {', '.join(PRECISIONS)}.")
    return precision


def asked_for(otherwise: str) -> str:
    """The precision that the environment's CAPTIONBOT_PRECISION names, or another where it says nothing."""
    return os.environ.get(VARIABLE) or otherwise


def half() -> torch.dtype | None:
    """The half precision that the CPU multiplies in itself; elsewhere it is emulated, slower than fp32.

    float16 before bfloat16: it rounds eight times as finely and is as fast. Its largest number is 65,504,
    which a CNN's features seldom reach; `packed_cnn.PackedEncoder` looks after that.
    """
    if knows(torch.float16):
        return torch.float16
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.12 and later
    return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else None


def knows(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies in a half precision on this CPU: bfloat16 needs AVX-512, or more."""
    asked = {torch.float16: "_is_mkldnn_fp16_supported", torch.bfloat16: "_is_mkldnn_bf16_supported"}[dtype]
    try:
        return bool(getattr(torch.ops.mkldnn, asked)())
    except (AttributeError, RuntimeError):
        return False


@cache
def _gains(half: torch.dtype | None) -> tuple[float, float]:
    """How many times as fast a convolution is in half precision, and a linear layer packed in fp32.

    Some 50 ms, once a process.
    """
    with torch.inference_mode():
        layer = nn.Conv2d(192, 192, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        photo = torch.randn(1, 192, 17, 17).contiguous(memory_format=torch.channels_last)
        wide, rows = nn.Linear(512, 4096), torch.randn(5, 512)
        try:
            linear = _times_as_fast(PackedLinear(wide.weight, wide.bias), wide, rows)
            return (_times_as_fast(PackedConv2d(layer, half), layer, photo) if half else 0.0), linear
        except (AttributeError, RuntimeError):  # an operator is gone, or is another one
            return 0.0, 0.0


@cache
def slices_pay() -> bool:
    """Whether weights that are stored in 8 bits are multiplied faster as integers, and as exactly as in fp32.

    Older CPUs add products of 8 bits in 16, which is too little for the largest ones. A draw goes to the
    integers: a whole decoder's weights, which no cache holds, gain more than those that are tried here.
    """
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(5, 2048, generator=generator).clamp(max=1)  # many of the largest
        exact = 127 * rows.double().sum(1, keepdim=True)
        try:
            for size, least in ((64, 0.01), (2048, 0.7)):  # a few first: there are CPUs that take seconds
                whole = torch.full((size, 2048), 127, dtype=torch.int8)
                sliced = SlicedLinear(whole, torch.ones(size), None)
                if (sliced(rows) - exact).abs().max() > 1e-5 * exact.abs().max():
                    return False
                if _times_as_fast(sliced, PackedLinear(sliced.weight), rows) < least:
                    return False
            return True
        except (AttributeError, RuntimeError):
            return False


def _times_as_fast(one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """How much faster one is, by the shortest of runs in turns, so that a busy machine hardly matters."""
    taken: dict[Callable[[Tensor], Tensor], list[float]] = {one: [], other: []}
    for _ in range(8):
        for run, seconds in taken.items():
            start = time.perf_counter()
            run(x)
            seconds.append(time.perf_counter() - start)
    return min(taken[other][1:]) / min(taken[one][1:])  # the first one sets things up


class Matrix(NamedTuple):
    """What a layer multiplies by: (E, D) weights, the columns from `start` on its own, and an (E,) bias."""

    weight: Tensor
    bias: Tensor | None = None
    start: int = 0

    @classmethod
    def of(cls, layer: nn.Linear) -> Matrix:
        return cls(layer.weight, layer.bias)


def product(*matrices: Matrix, dtype: torch.dtype) -> Product:
    """x W^T + b by matrices one below the other, in the fastest form for such weights."""
    weights = [matrix.weight.detach() for matrix in matrices]
    bias = None
    if any(matrix.bias is not None for matrix in matrices):
        bias = torch.cat([w.new_zeros(len(w)) if m.bias is None else m.bias.detach()
                          for w, m in zip(weights, matrices, strict=True)])  # fmt: skip

    def joined(parts: Iterable[Tensor]) -> Tensor:
        return torch.cat([part[:, m.start :] for part, m in zip(parts, matrices, strict=True)])

    if _SLICES.get(dtype) and slices_pay():
        stored = [found for weight in weights if (found := stored_integers(weight))]
        if len(stored) == len(weights):
            integers, scales = zip(*stored, strict=True)
            return SlicedLinear(joined(integers), torch.cat(scales), bias, _SLICES[dtype])
    return PackedLinear(joined(weights), bias, dtype)


def together(*matrices: Matrix, dtype: torch.dtype) -> list[Part]:
    """A layer for each matrix, all given the same x, which one product multiplies by all of them."""
    whole = product(*matrices, dtype=dtype)
    ends = list(accumulate((len(matrix.weight) for matrix in matrices), initial=0))
    return [Part(whole, slice(*rows)) for rows in pairwise(ends)]


class _PackedCell(nn.Module):
    """W_x x + W_h h + b of a recurrent cell."""

    def __init__(self, of_x: Product, of_hidden: Product) -> None:
        nn.Module.__init__(self)  # the scratch cell would make weights of its own
        self.of_x, self.of_hidden = of_x, of_hidden

    def affine(self, x: Tensor, hidden: Tensor) -> Tensor:
        return self.of_x(x) + self.of_hidden(hidden)


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

    def __init__(self, of_x: Product, of_hidden: Product) -> None:
        super().__init__()
        self.of_x, self.of_hidden = of_x, of_hidden

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(N, D), (N, H) -> (N, H)."""
        size = 2 * hidden.shape[-1]
        x, recurrent = self.of_x(x), self.of_hidden(hidden)
        r, z = (x[:, :size] + recurrent[:, :size]).sigmoid_().chunk(2, -1)
        n = torch.addcmul(x[:, size:], r, recurrent[:, size:]).tanh_()
        return torch.lerp(n, hidden, z)


def pack(module: _Module, dtype: torch.dtype) -> _Module:
    """A module's layers with matrices swapped, in place, for ones that are packed; returns the module.

    What multiplies by a single row (the scores of attention) stays, and so does a module on other devices.
    """
    if isinstance(module, SoftAttentionDecoder):
        _pack_soft_attention(module, dtype)
    if isinstance(module, ScratchTransformerLayer):
        _share(module.self_attention, ("query", "key", "value"), dtype)
    for name, child in list(module.named_children()):
        setattr(module, name, _packed(child, dtype) or pack(child, dtype))
    return module


def _share(module: nn.Module, names: Sequence[str], dtype: torch.dtype, *more: Matrix) -> list[Part]:
    """Swap linear layers that are given the same for parts of one product; returns the others of it."""
    matrices = [Matrix.of(getattr(module, name)) for name in names]
    parts = together(*matrices, *more, dtype=dtype)
    for name, part in zip(names, parts, strict=False):
        setattr(module, name, part)
    return parts[len(names) :]


def _pack_soft_attention(decoder: SoftAttentionDecoder, dtype: torch.dtype) -> None:
    """Work out what each word adds to the LSTM's gates, and share products of hidden state and context.

    A step then reads a row a hypothesis instead of the embedding's share of the weights.
    """
    words, lstm = decoder.embedding.weight.detach(), decoder.lstm
    size = words.shape[1]
    bias = (lstm.bias_ih + lstm.bias_hh).detach()
    decoder.word_gates = F.linear(words, lstm.weight_ih.detach()[:, :size], bias)
    read = ("output_context",) if decoder.config.deep_output else ()
    (of_context,) = _share(decoder, read, dtype, Matrix(lstm.weight_ih, start=size))
    (of_hidden,) = _share(decoder, ("attend_hidden", "gate"), dtype, Matrix(lstm.weight_hh))
    decoder.annotation_dtype = dtype
    decoder.lstm = PackedLSTMCell(of_context, of_hidden)  # type: ignore[assignment]


def _packed(layer: nn.Module, dtype: torch.dtype) -> nn.Module | None:
    if isinstance(layer, (_PackedCell, Product)):
        return layer
    if isinstance(layer, nn.Linear):
        return product(Matrix.of(layer), dtype=dtype) if layer.out_features > 1 else None
    if isinstance(layer, Unembedding):
        return product(Matrix(layer.weight), dtype=dtype)
    cells = (
        (nn.LSTMCell, PackedLSTMCell),
        (nn.RNNCell, PackedRNNCell),
        (nn.GRUCell, PackedGRUCell),
        (ScratchLSTMCell, PackedLSTMCell),
        (ScratchRNNCell, PackedRNNCell),
    )
    for kind, packed in cells:
        if isinstance(layer, kind):
            return packed(*(product(matrix, dtype=dtype) for matrix in _matrices(layer)))
    return None


def _matrices(cell: Any) -> tuple[Matrix, Matrix]:
    """Of a cell's input, and of its hidden state."""
    if isinstance(cell, nn.GRUCell):
        return Matrix(cell.weight_ih, cell.bias_ih), Matrix(cell.weight_hh, cell.bias_hh)
    if isinstance(cell, nn.RNNCellBase):
        return Matrix(cell.weight_ih, cell.bias_ih + cell.bias_hh), Matrix(cell.weight_hh)
    return Matrix(cell.weight_x, cell.bias), Matrix(cell.weight_h)
