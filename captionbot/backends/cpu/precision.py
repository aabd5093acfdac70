"""What a captioner computes in on a CPU: oneDNN's layouts, integers, half precision, where they are faster.

What is faster is measured once and kept in the cache folder, by CPU and version of torch. torch's oneDNN
operators are not public, so whatever goes wrong with them means to do without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from captionbot.backends.cpu.cnn import UNFIT, PackedConv2d
from captionbot.backends.cpu.integers import IntegerCNN
from captionbot.backends.cpu.linear import PackedLinear
from captionbot.backends.cpu.remembered import remembered
from captionbot.backends.cpu.slices import SlicedLinear
from captionbot.errors import CaptionBotError

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
PRECISIONS = ("auto", "float32", "half", *HALVES)
VARIABLE = "CAPTIONBOT_PRECISION"
_RELU = ("relu", ())
_INTEGERS_PAY = 1.2  # how much faster a CNN must be in 8 bits for hidden copies to be encoded so
_HALF_PAYS = 1.3  # how much faster a CNN must be in half precision for its rounding to be worth it


@dataclass(frozen=True)
class Arithmetic:
    """What an encoder and a decoder are packed to on a CPU; None leaves them as they are."""

    encoder: torch.dtype | None = None
    decoder: torch.dtype | None = None


def choose(precision: str) -> Arithmetic:
    """What this CPU computes with.

    precision: "float32"; "half" for the fast mode, encoder and decoder in the finest half precision that the
        CPU multiplies in, or "float16" or "bfloat16" for one of them; or "auto": words are chosen in float32,
        and photos encoded in half precision where that is at least 1.3 times as fast.
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
    half_gains, cnn_gains, linear_gains = remembered(f"times as fast in {dtype}", partial(_gains, dtype))
    decoder = torch.float32 if linear_gains > 1 or slices_pay() else None
    encoder = torch.float32 if cnn_gains > 1 else None
    half_pays = precision == "auto" and half_gains > _HALF_PAYS * max(cnn_gains, 1)
    return Arithmetic(dtype if half_pays else encoder, decoder)


def known(precision: str) -> str:
    """The precision itself; CaptionBotError where there is none of that name."""
    if precision == "int8":
        raise CaptionBotError(
            "Photos are no longer encoded in int8, which changed one caption in four; choose half, the fast "
            "precision, or auto."
        )
    if precision not in PRECISIONS:
        raise CaptionBotError(f"'{precision}' is not a precision; choose one of {', '.join(PRECISIONS)}.")
    return precision


def asked_for(otherwise: str) -> str:
    """The precision that the environment's CAPTIONBOT_PRECISION names, or a card's where it says nothing."""
    return os.environ.get(VARIABLE) or ("auto" if otherwise == "int8" else otherwise)  # a card of 0.1


def half() -> torch.dtype | None:
    """The half precision that the CPU multiplies in itself; elsewhere it is emulated, slower than fp32.

    float16 before bfloat16: it rounds eight times as finely and is as fast. Its largest number is 65,504,
    which a CNN's features seldom reach; `cnn.PackedEncoder` looks after that.
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


def _gains(half: torch.dtype | None) -> list[float]:
    """How many times as fast a convolution is in half precision, packed in fp32, and a linear layer so.

    Some 80 ms.
    """
    with torch.inference_mode():
        layer = nn.Conv2d(192, 192, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        photo = torch.randn(1, 192, 17, 17).contiguous(memory_format=torch.channels_last)
        wide, rows = nn.Linear(512, 4096), torch.randn(5, 512)

        def plain(x: Tensor) -> Tensor:
            activated: Tensor = layer(x).relu_()
            return activated

        def packed(dtype: torch.dtype) -> float:
            return _times_as_fast(PackedConv2d(layer, dtype, _RELU), plain, photo)

        try:
            linear = _times_as_fast(PackedLinear(wide.weight, wide.bias), wide, rows)
            return [packed(half) if half else 0.0, packed(torch.float32), linear]
        except (AttributeError, RuntimeError):  # an operator is gone, or is another one
            return [0.0, 0.0, 0.0]


def copies_in_integers(precision: str) -> bool:
    """Whether hidden copies of a photo are encoded in integers of 8 bits, whatever photos are.

    precision: as of `choose`: with "auto", where a convolution is so much faster in them than as photos are
        encoded.
    """
    if precision != "auto":
        return False
    dtype = choose(precision).encoder
    (gain,) = remembered(f"times as fast in integers as in {dtype}", partial(_integers_gain, dtype))
    return gain > _INTEGERS_PAY


def _integers_gain(dtype: torch.dtype | None) -> list[float]:
    """dtype: that a convolution is packed in for comparison; None: as it is."""
    with torch.inference_mode():
        layer = nn.Conv2d(160, 192, (1, 7), padding=(0, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.rand(4, 160, 17, 17).contiguous(memory_format=torch.channels_last)
        graph = fx.Graph()
        graph.output(graph.call_function(F.relu, (graph.call_module("0", (graph.placeholder("x"),)),)))
        try:
            cnn = IntegerCNN(fx.GraphModule(nn.Sequential(layer), graph))
            scales, _ = cnn.scales(x)
            other = (lambda x: F.relu(layer(x))) if dtype is None else PackedConv2d(layer, dtype, _RELU)
            return [_times_as_fast(lambda x: cnn(x, scales), other, x)]
        except UNFIT:
            return [0.0]


@cache
def slices_pay() -> bool:
    """Whether weights that are stored in 8 bits are multiplied faster as integers, and as exactly as in fp32.

    Older CPUs add products of 8 bits in 16, which is too little for the largest ones. A draw goes to the
    integers: a whole decoder's weights, which no cache holds, gain more than those that are tried here.
    """
    return bool(remembered("slices", lambda: [float(_slices_pay())])[0])


def _slices_pay() -> bool:
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
