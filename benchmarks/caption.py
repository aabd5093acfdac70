"""The batched search over soft attention against two plain ones, and against the floor of the machine.

"plain" runs one hypothesis at a time, and "tutorial" works out what depends on the image alone before every
word as well, as tutorials do. Both have the decoder as PyTorch runs it; ours has it as a captioner loads it,
in fp32 and, where the CPU multiplies in it, in half precision. All have the same weights, those of matrices
rounded to 8 bits, as in the captioners that ship; "fp32 weights" are not rounded, as in those that others
train and import. One thread, and its processor's time: other work on the machine hardly matters.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, TypeVar

import torch

from benchmarks import floor
from benchmarks.plain_search import plain_search
from benchmarks.timing import Row, in_turns, one_thread, times_as_fast
from captionbot import SearchOptions
from captionbot.backends.cpu import precision as arithmetic
from captionbot.backends.cpu.decoder import pack
from captionbot.decoders import Decoder
from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder
from captionbot.search.beam import beam_search
from captionbot.store import card as cards
from captionbot.types import Features

_Decoder = TypeVar("_Decoder", bound=Decoder)
BATCHES = (1, 8, 32)
VOCABULARY, GRID, CHANNELS, WORDS, BEAMS = 7500, 14, 1024, 20, 5
PLAIN = 4  # images at most that the plain searches, which go image by image, are timed on
PRECISIONS = {"fp32": "float32"} | ({"half": "half"} if arithmetic.half() else {})
UNROUNDED = "fp32 weights"
OURS = (*PRECISIONS, UNROUNDED)


def measure(rounds: int, quick: bool) -> list[Row]:
    """Ratios, milliseconds an image and floors: beam 5, exactly 20 words, random weights."""
    torch.manual_seed(0)
    vocabulary, grid, channels, words = (500, 4, 64, 4) if quick else (VOCABULARY, GRID, CHANNELS, WORDS)
    config = SoftAttentionConfig(vocabulary, channels)
    unrounded = SoftAttentionDecoder(config).eval().requires_grad_(False)
    decoder = as_stored(unrounded)
    options = SearchOptions(beam_size=BEAMS, min_length=words, max_length=words)
    asked: dict[str, Any] = {"bos_id": 1, "eos_id": 2, "options": options}
    searches: dict[str, Callable] = {
        **{
            name: partial(beam_search, packed, **asked)
            for name, packed in all_loaded(unrounded, decoder).items()
        },
        "plain": partial(plain_search, decoder, **asked),
        "tutorial": partial(plain_search, decoder, **asked, once_an_image=False),
    }
    work = floor.search_flop(config, grid**2, words, BEAMS) / 1e9
    dtypes = {"fp32": torch.float32, "half": arithmetic.half()}
    peaks = {name: floor.gflops(dtype) for name, dtype in dtypes.items() if dtype}
    memory = floor.bandwidth()
    batches = BATCHES[:2] if quick else BATCHES
    times: list[dict[str, list[float]]] = []
    same: list[float] = []
    with one_thread():
        for batch in batches:
            features, few = (_features(min(batch, most), grid, channels) for most in (batch, PLAIN))
            ours = searches["fp32"](few).hypotheses
            theirs = searches["plain"](few)
            same.append(sum(a[0].token_ids == b[0].token_ids for a, b in zip(ours, theirs, strict=True)))
            same[-1] /= len(few)
            runs = {name: partial(search, features if name in OURS else few)
                    for name, search in searches.items()}  # fmt: skip
            taken = in_turns(runs, rounds, time.process_time)
            images = {name: len(features if name in OURS else few) for name in runs}
            times.append({name: [1000 * t / images[name] for t in row] for name, row in taken.items()})
    what = f"search, beam {BEAMS}, batch {', '.join(map(str, batches))}"
    rows = [
        Row(f"{what}: {ours} against {told}", [times_as_fast(t, ours, slow) for t in times], "times as fast")
        for slow, told in (
            ("plain", "one hypothesis at a time"),
            ("tutorial", "one at a time, the image's part again for every word"),
        )
        for ours in OURS
    ]
    rows.append(Row(f"{what}: share of captions, fp32, that one at a time gives too", same, ""))
    for name, peak in peaks.items():
        shares = [median(t[name]) * peak / work / 1000 for t in times]
        rows.append(Row(f"{what}: {name} against the floor of its arithmetic", shares, "times the floor"))
    rows += [Row(f"{what}: {name}, an image", [median(t[name]) for t in times], "ms") for name in searches]
    floors = [1000 * work / peak for peak in peaks.values()]
    names = ", ".join(peaks)
    rows.append(Row(f"floor of the search, {work:.3g} GFLOP an image: {names}", floors, "ms"))
    read = 1000 * floor.step_weights(config) * (words + 1) / (memory * 2**30)
    reading = [read * dtype.itemsize for dtype in dtypes.values() if dtype]
    rows.append(Row(f"floor of reading the weights at each word, one image: {names}", reading, "ms"))
    rows.append(Row(f"this core at best: {names}", list(peaks.values()), "GFLOP a second"))
    rows.append(Row("this core at best: memory", [memory], "GiB a second"))
    return rows


def _features(images: int, grid: int, channels: int) -> Features:
    values = torch.randn(images, grid**2, channels, generator=torch.Generator().manual_seed(0))
    return Features(values, torch.zeros(1, grid**2, 4), (grid, grid))


def as_stored(decoder: _Decoder) -> _Decoder:
    """A copy of a decoder with the weights that are read back after they were stored in int8."""
    decoder = copy.deepcopy(decoder)
    decoder.load_state_dict(cards.unpack(cards.pack(decoder.state_dict(), "int8")))
    return decoder


def all_loaded(unrounded: Decoder, stored: Decoder) -> dict[str, Decoder]:
    """The searches' decoders by name: from 8 bits in each of the precisions, and unrounded."""
    rounded = {name: as_loaded(stored, precision) for name, precision in PRECISIONS.items()}
    return {**rounded, UNROUNDED: as_loaded(unrounded, "float32")}


def as_loaded(decoder: Decoder, precision: str) -> Decoder:
    """A copy of a decoder with the layers that `Captioner.from_pretrained` gives it on a CPU."""
    dtype = arithmetic.choose(precision).decoder
    decoder = copy.deepcopy(decoder)
    return decoder if dtype is None else pack(decoder, dtype)
