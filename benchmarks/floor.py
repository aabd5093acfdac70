"""What this machine could do at best: its peak arithmetic, its memory, and what a search must compute.

One thread throughout. A floor is the arithmetic of something at the peak of a large matrix product, by
whichever of torch's libraries is the faster; hardly an implementation with the same sums can be faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.timing import one_thread, seconds
from captionbot.backends.cpu.linear import PackedLinear
from captionbot.decoders.soft_attention import SoftAttentionConfig

_SIZE = 1536  # of square matrices: large enough for the peak, and 7 MB in bf16
_BYTES = 256 * 2**20  # far more than caches hold


def gflops(dtype: torch.dtype, rounds: int = 5) -> float:
    """Thousand million floating-point operations a second of a matrix product, by one thread."""
    a, b = (torch.randn(_SIZE, _SIZE).to(dtype) for _ in range(2))
    packed = PackedLinear(b, None, dtype)
    return 2 * _SIZE**3 / min(_best(lambda: a @ b, rounds), _best(lambda: packed(a), rounds)) / 1e9


def bandwidth(rounds: int = 5) -> float:
    """GiB a second that one thread reads from memory."""
    values = torch.ones(_BYTES // 4)
    return _BYTES / 2**30 / _best(values.sum, rounds)


def _best(run: Callable[[], object], rounds: int) -> float:
    """The fastest round, of the processor's time: what the core can do, whatever else it did meanwhile."""
    with one_thread(), torch.inference_mode():
        return min(seconds(run, time.process_time) for _ in range(rounds + 1))


def step_weights(config: SoftAttentionConfig) -> int:
    """Weights that rows are multiplied with at each word; the embedding's share of the gates is a table."""
    hidden, channels = config.hidden_size, config.annotation_size or config.feature_size
    weights = hidden * config.attention_size + hidden * channels  # query and gate
    weights += (channels + hidden) * 4 * hidden  # gates
    output = config.embedding_size if config.deep_output else hidden
    if config.deep_output:
        weights += (hidden + channels) * output
    return weights + output * config.vocabulary_size


def search_flop(config: SoftAttentionConfig, places: int, words: int, beams: int) -> int:
    """Operations (two a multiply-add) of one image's beam search that writes so many words and the end.

    Matrix products and attention alone, with nothing done twice: annotations are projected once, and the
    embedding's share of the LSTM's gates is a table.
    """
    hidden, attention = config.hidden_size, config.attention_size
    channels = config.annotation_size or config.feature_size
    once = places * channels * attention + 2 * channels * hidden
    if config.annotation_size:
        once += places * config.feature_size * channels
    row = step_weights(config) + places * (attention + channels)  # scores and context
    return 2 * (once + row * (1 + beams * words))  # the first word has one row


def encoder_flop(encoder: nn.Module, pixels: Tensor) -> int:
    """Operations of a photo's convolutions and linear layers."""
    total = 0

    def note(layer: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
        nonlocal total
        total += 2 * made.numel() // len(pixels) * layer.weight[0].numel()  # type: ignore[index,operator]

    hooks = [
        layer.register_forward_hook(note)
        for layer in encoder.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.inference_mode():
            encoder(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return total
