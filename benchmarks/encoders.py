"""Encoders as captioners load them against the floor of their arithmetic, with random weights.

For one photo and for many, by one thread, of its processor's time, and by two, by the clock. "plain" is the
same network as PyTorch runs it, a CNN's batch norms folded and channels last. ViT-B/16 is that of the Hub's
captioners, by transformers.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import floor
from benchmarks.timing import Clock, Part, Row, seconds, some_threads
from captionbot.backends.cpu import precision as arithmetic
from captionbot.backends.cpu.cnn import PackedEncoder
from captionbot.backends.cpu.hub import packed_hub_encoder
from captionbot.encoders import GridConfig, GridEncoder
from captionbot.encoders.hub import HubEncoder, HubEncoderConfig

Way = Callable[[Tensor], Any]
PackIn = Callable[[torch.dtype], Way]
CNNS = {  # the layer that captioners take, and the size of photos
    "inception_v3": ("Mixed_7a", 299),
    "efficientnet_lite2": ("act2", 256),
    "resnet50": ("layer4", 224),
    "resnet101": ("layer4", 224),
    "mobilenet_v2": ("features.18", 224),
}
VITS = {"ViT-B/16 at 224": 224, "ViT-B/16 at 384": 384}  # pixels of a photo's side
BATCHES = (1, 32)
THREADS = (1, 2)
_LONG = 1e12  # operations of a run that is timed once


def measure(rounds: int, quick: bool) -> list[Part]:
    """How many times its floor each encoder takes, in fp32 and in half precision where the CPU has one."""
    precisions = {"fp32": "float32"} | ({"half": "half"} if arithmetic.half() else {})
    threads = THREADS[:1] if quick or torch.get_num_threads() < THREADS[-1] else THREADS
    batches = BATCHES[:1] if quick else BATCHES
    columns = [
        f"{batch} photo{'s' * (batch > 1)}, {count} thread{'s' * (count > 1)}"
        for batch in batches
        for count in threads
    ]
    parts = []
    for name, precision in precisions.items():
        dtype = arithmetic.choose(precision).encoder
        peak = floor.gflops(dtype or torch.float32)
        rows = []
        for encoder in ["mobilenet_v2"] if quick else [*CNNS, *VITS]:
            work, times, plain = _timed(encoder, dtype, batches, threads, rounds)
            least = work / peak / 1e9
            rows.append(Row(
                f"{encoder}, {work / 1e9:.3g} GFLOP, {1000 * least:.3g} ms",
                [*(times[b, t] * t / least for b in batches for t in threads), plain / least],
                "times",
            ))  # fmt: skip
        how = (
            f"Times the floor, which is {peak:.0f} GFLOP/s a core, as a large matrix product has there. "
            "The last column is PyTorch's own way in fp32, against the same floor."
        )
        parts.append(Part(f"Encoders, {name}", how, [*columns, "plain, 1 photo, 1 thread"], rows))
    return parts


def _timed(
    name: str, dtype: torch.dtype | None, batches: Sequence[int], threads: Sequence[int], rounds: int
) -> tuple[int, dict[tuple[int, int], float], float]:
    """Operations of a photo; its seconds, by photos at once and threads; those of a plain one by one thread.

    dtype: that the encoder is packed in, None for a CPU where the plain one is the faster.
    """
    torch.manual_seed(0)
    work, plain, pack_in, size = _vit(VITS[name]) if name in VITS else _cnn(name)
    ours = plain if dtype is None else pack_in(dtype)
    times: dict[tuple[int, int], float] = {}
    with torch.inference_mode():
        for batch in batches:
            pixels = torch.randn(batch, 3, size, size)
            for count in threads:
                clock = time.process_time if count == 1 else time.perf_counter
                with some_threads(count):
                    times[batch, count] = _median(partial(ours, pixels), work, batch, rounds, clock)
        with some_threads(1):
            given = torch.randn(1, 3, size, size)
            return work, times, _median(partial(plain, given), work, 1, rounds, time.process_time)


def _median(run: Callable[[], Any], work: int, batch: int, rounds: int, clock: Clock) -> float:
    """Seconds a photo."""
    if work * batch > _LONG:
        return seconds(run, clock) / batch
    often = 4 if batch == 1 else 1  # a single photo takes too short a time to be told from noise
    run()  # the first one sets things up
    return median(seconds(run, clock) for _ in range(often * rounds)) / batch


def _cnn(name: str) -> tuple[int, Way, PackIn, int]:
    """Operations of a photo, the plain CNN, what packs it, and the size of its photos."""
    layer, size = CNNS[name]
    encoder = GridEncoder(GridConfig(name, layer))
    weights = {k: torch.randn(t.shape) * (2 / t[0].numel()) ** 0.5 for k, t in encoder.state_dict().items()}
    encoder.load_state_dict(weights, assign=True)
    encoder = encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    work = floor.encoder_flop(encoder, torch.zeros(1, 3, size, size))
    return work, encoder, partial(PackedEncoder, encoder), size


def _vit(size: int) -> tuple[int, Way, PackIn, int]:
    """The same of a ViT, the products of its attention counted in."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(image_size=size)
    vit = ViTModel(config, add_pooling_layer=False)
    tokens: Callable[[nn.ModuleDict, Tensor], Tensor] = lambda parts, seen: parts["vit"](seen)[0]  # noqa: E731
    encoder = HubEncoder(HubEncoderConfig("vit"), {"vit": vit}, tokens).eval().requires_grad_(False)
    work = floor.encoder_flop(encoder, torch.zeros(1, 3, size, size))
    places = (size // config.patch_size) ** 2 + 1
    work += 4 * places**2 * config.hidden_size * config.num_hidden_layers
    return work, encoder, partial(packed_hub_encoder, copy.deepcopy(encoder)), size
