"""The batched search, and the whole way from a JPEG to a caption, against sgrvinod's tutorial and the floor.

Both have the same random weights of that tutorial's sizes and find the same words. Ours are as a captioner
loads them, in fp32 and, where the CPU multiplies in it, in half precision, the matrices rounded to 8 bits as
in the captioners that ship; "fp32 weights" are not rounded, as in those that others train and import. One
thread, and its processor's time: other work on the machine hardly matters.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmarks import floor, sgrvinod
from benchmarks.pages import photo
from benchmarks.timing import Part, Row, Times, in_turns, one_thread, times_as_fast
from captionbot import SearchOptions, load_image
from captionbot.backends.cpu import packed
from captionbot.backends.cpu import precision as arithmetic
from captionbot.backends.cpu.decoder import pack
from captionbot.decoders import Decoder
from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder
from captionbot.encoders import GridConfig, GridEncoder
from captionbot.images.load import Preprocessing, to_pixel_values
from captionbot.search.beam import beam_search
from captionbot.store import card as cards
from captionbot.types import Features, Search

_Decoder = TypeVar("_Decoder", bound=Decoder)
BATCHES = (1, 8, 32)
WORDS, BEAMS, BOS, EOS = 20, 5, 1, 2
ONE_BY_ONE = 2  # photos at most that the tutorial's search, which goes photo by photo, is timed on
PRECISIONS = {"fp32": "float32"} | ({"half": "half"} if arithmetic.half() else {})
UNROUNDED = "fp32 weights"
OURS = (*PRECISIONS, UNROUNDED)
THEIRS = "sgrvinod's"


def measure(rounds: int, quick: bool) -> list[Part]:
    """The search alone, and the whole way: beam 5, exactly 20 words, random weights."""
    torch.manual_seed(0)
    words = 4 if quick else WORDS
    config = SoftAttentionConfig(500, 64) if quick else sgrvinod.CONFIG
    unrounded = SoftAttentionDecoder(config).eval().requires_grad_(False)
    stored = as_stored(unrounded)
    ours = all_loaded(unrounded, stored)
    dtypes = {"fp32": torch.float32, "half": arithmetic.half()}
    peaks = {name: floor.gflops(dtype) for name, dtype in dtypes.items() if dtype}
    with one_thread():
        parts = [_search(ours, stored, words, rounds, peaks, BATCHES[:2] if quick else BATCHES)]
        if not quick:
            parts.append(_whole(unrounded, stored, rounds, peaks))
    return parts


def _search(
    ours: Mapping[str, Decoder],
    stored: Decoder,
    words: int,
    rounds: int,
    peaks: Mapping[str, float],
    batches: tuple[int, ...],
) -> Part:
    options = SearchOptions(beam_size=BEAMS, min_length=words, max_length=words)

    def searched(decoder: Decoder, features: Features) -> Search:
        return beam_search(decoder, features, bos_id=BOS, eos_id=EOS, options=options)

    searches = {name: partial(searched, decoder) for name, decoder in ours.items()}
    theirs = _theirs(stored, words)
    channels = stored.config.feature_size
    times: list[Times] = []
    same: list[float] = []
    for batch in batches:
        features, few = _features(batch, channels), _features(min(batch, ONE_BY_ONE), channels)
        told, expected = searches["fp32"](few).hypotheses, theirs(few)
        same.append(sum(list(a[0].token_ids) == b for a, b in zip(told, expected, strict=True)) / len(few))
        runs: dict[str, Callable[[], object]] = {n: partial(run, features) for n, run in searches.items()}
        taken = in_turns({**runs, THEIRS: partial(theirs, few)}, rounds, time.process_time)
        images = {name: len(few) if name == THEIRS else batch for name in taken}
        times.append({name: [1000 * t / images[name] for t in row] for name, row in taken.items()})
    config: Any = stored.config
    work = floor.search_flop(config, sgrvinod.GRID**2, words, BEAMS) / 1e9
    memory = floor.bandwidth()
    read = 1000 * 4 * floor.step_weights(config) * (words + 1) / (memory * 2**30)
    ratios = {name: [times_as_fast(t, name, THEIRS) for t in times] for name in ours}
    floors = {name: [median(t[name]) * peak / work / 1000 for t in times] for name, peak in peaks.items()}
    rows = [
        *(Row(f"{name} against {THEIRS}", values, "times") for name, values in ratios.items()),
        *(Row(f"{name} against its floor", values, "times") for name, values in floors.items()),
        *(Row(f"{name}, a photo", [median(t[name]) for t in times], "ms") for name in (*ours, THEIRS)),
        Row(f"share of captions, fp32, that are {THEIRS}", same, ""),
    ]
    speeds = " and ".join(f"{peak:.0f} GFLOP/s in {name}" for name, peak in peaks.items())
    how = (
        f"Beam {BEAMS}, exactly {words} words, {sgrvinod.GRID} x {sgrvinod.GRID} places. The floor is "
        f"{work:.3g} GFLOP a photo, at {speeds}, which a large matrix product has on this core; reading the "
        f"weights in fp32 at each word takes {read:.0f} ms ({memory:.0f} GiB/s)."
    )
    columns = [f"{batch} photo{'s' * (batch > 1)}" for batch in batches]
    return Part(f"The search, against {THEIRS}", how, columns, rows)


def _whole(unrounded: Decoder, stored: Decoder, rounds: int, peaks: Mapping[str, float]) -> Part:
    """From the bytes of a JPEG to a caption."""
    import torchvision.models as models

    size = (sgrvinod.SIZE, sgrvinod.SIZE)
    preprocessing = Preprocessing(size, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
    cnn = models.resnet101(weights=None).eval().requires_grad_(False)
    grid = (sgrvinod.GRID, sgrvinod.GRID)
    encoder = (
        GridEncoder(GridConfig("resnet101", "layer4", grid), cnn.state_dict()).eval().requires_grad_(False)
    )
    options = SearchOptions(beam_size=BEAMS, min_length=WORDS, max_length=WORDS)
    data, plain, search = photo(0), sgrvinod.TutorialEncoder(cnn), _theirs(stored, WORDS)

    def pixels() -> Tensor:
        return to_pixel_values([load_image(data)], preprocessing)

    def ours(encode: Callable[[Tensor], Features], decoder: Decoder) -> object:
        with torch.inference_mode():
            features = encode(pixels())
        return beam_search(decoder, features, bos_id=BOS, eos_id=EOS, options=options)

    def seen(encode: Callable[[Tensor], Features], given: Tensor) -> object:
        with torch.inference_mode():
            return encode(given)

    def theirs() -> object:
        with torch.inference_mode():
            features = plain(pixels().contiguous())
        return search(features)

    runs: dict[str, Callable[[], object]] = {}
    encoders: dict[str, Callable[[], object]] = {}
    for name in {"fp32": "float32", "auto": "auto", **PRECISIONS}:
        precision = PRECISIONS.get(name, name)
        of: nn.Module = copy.deepcopy(encoder).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        encode, decoder = packed(of, copy.deepcopy(stored), precision)
        runs[name] = partial(ours, encode, decoder)
        encoders[name] = partial(seen, encode, pixels())
    runs[THEIRS] = theirs
    for run in runs.values():
        run()
    taken = in_turns(runs, rounds, time.process_time)
    encoded = in_turns(encoders, rounds, time.process_time)
    work = (
        floor.encoder_flop(encoder, pixels()) + floor.search_flop(sgrvinod.CONFIG, 196, WORDS, BEAMS)
    ) / 1e9
    least = work / peaks["fp32"]
    rows = [
        Row(f"against {THEIRS}", [times_as_fast(taken, name, THEIRS) for name in runs], "times"),
        Row("against its floor in fp32", [median(of) / least for of in taken.values()], "times"),
        Row("the whole", [1000 * median(of) for of in taken.values()], "ms"),
        Row("of that the CNN", [*(1000 * median(of) for of in encoded.values()), float("nan")], "ms"),
    ]
    how = (
        f"One photo of 640 x 480 pixels, ResNet-101 at {sgrvinod.SIZE} pixels, beam {BEAMS}, exactly {WORDS} "
        f"words. The floor is {work:.3g} GFLOP, {1000 * least:.0f} ms in fp32."
    )
    return Part(f"From a JPEG to its caption, against {THEIRS}", how, list(runs), rows)


def _theirs(decoder: Decoder, words: int) -> Callable[[Features], list[list[int]]]:
    return partial(sgrvinod.search, decoder, bos_id=BOS, eos_id=EOS, words=words, beams=BEAMS)


def _features(images: int, channels: int) -> Features:
    places = sgrvinod.GRID**2
    values = torch.randn(images, places, channels, generator=torch.Generator().manual_seed(0))
    return Features(values, torch.zeros(1, places, 4), (sgrvinod.GRID, sgrvinod.GRID))


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
