"""Encoders as captioners load them against the floor of their arithmetic, in fp32, with random weights.

"plain" is the same network as PyTorch runs it, a CNN's batch norms folded and channels last. One thread, and
its processor's time. ViT-B/16 is that of the Hub's captioners, by transformers.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import floor
from benchmarks.timing import Part, Row, in_turns, one_thread
from captionbot.backends.cpu.cnn import PackedEncoder
from captionbot.backends.cpu.decoder import pack
from captionbot.encoders import GridConfig, GridEncoder

Way = Callable[[Tensor], Any]
CNNS = {  # the layer that captioners take, and the size of photos
    "inception_v3": ("Mixed_7a", 299),
    "efficientnet_lite2": ("act2", 256),
    "resnet50": ("layer4", 224),
    "resnet101": ("layer4", 224),
    "mobilenet_v2": ("features.18", 224),
}
VITS = {"ViT-B/16 at 224": 224, "ViT-B/16 at 384": 384}  # pixels of a photo's side
BATCHES = (1, 16)


def measure(rounds: int, quick: bool) -> list[Part]:
    """Milliseconds a photo, packed and plain, and how many times the floor the faster way is."""
    peak = floor.gflops(torch.float32)
    rows = []
    with one_thread():
        for name in ["mobilenet_v2"] if quick else [*CNNS, *VITS]:
            values: list[float] = []
            for batch in BATCHES[:1] if quick else BATCHES:
                work, taken = _timed(name, batch, rounds)
                ours, plain = (1000 * median(taken[way]) / batch for way in ("packed", "plain"))
                values += [min(ours, plain) / (work / peak / 1e6), ours, plain]
            rows.append(Row(f"{name}, {work / 1e9:.3g} GFLOP", values, ""))
    how = (
        f"The floor is at {peak:.0f} GFLOP/s, which a large matrix product in fp32 has on this core; a "
        "captioner takes the faster way, which it measures as it is loaded."
    )
    columns = [
        f"{batch} photo{'s' * (batch > 1)}: {what}"
        for batch in (BATCHES[:1] if quick else BATCHES)
        for what in ("times the floor", "ms, packed", "ms, plain")
    ]
    return [Part("Encoders", how, columns, rows)]


def _timed(name: str, batch: int, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Operations of a photo, and seconds of a batch, packed and plain."""
    torch.manual_seed(0)
    work, plain, packed, size = _vit(VITS[name]) if name in VITS else _cnn(name)
    pixels = torch.randn(batch, 3, size, size)
    runs = {"packed": partial(packed, pixels), "plain": partial(plain, pixels)}
    with torch.inference_mode():
        for run in runs.values():
            run()
        often = 4 if batch == 1 else 1  # a single photo takes too short a time to be told from noise
        return work, in_turns(runs, often * rounds, time.process_time)


def _cnn(name: str) -> tuple[int, Way, Way, int]:
    """Operations of a photo, the plain and the packed CNN, and the size of its photos."""
    layer, size = CNNS[name]
    encoder = GridEncoder(GridConfig(name, layer))
    weights = {k: torch.randn(t.shape) * (2 / t[0].numel()) ** 0.5 for k, t in encoder.state_dict().items()}
    encoder.load_state_dict(weights, assign=True)
    encoder = encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    work = floor.encoder_flop(encoder, torch.zeros(1, 3, size, size))
    return work, encoder, PackedEncoder(encoder, torch.float32), size


def _vit(size: int) -> tuple[int, Way, Way, int]:
    """The same of a ViT, the products of its attention counted in."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(image_size=size)
    vit = ViTModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    work = floor.encoder_flop(vit, torch.zeros(1, 3, size, size))
    places = (size // config.patch_size) ** 2 + 1
    work += 4 * places**2 * config.hidden_size * config.num_hidden_layers
    return work, vit, pack(copy.deepcopy(vit), torch.float32), size
