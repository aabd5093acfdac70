"""Captioners of the Hub against `generate`: random weights of the true size, one thread, one photo, 12 words.

`python -m benchmarks.hub blip-base` prints processor seconds, so that other programs on the machine hardly
matter, and the memory of the process. The weights are random: they say nothing, and take as long.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

WORDS, BEAMS = 12, 5
SIZES: dict[str, tuple[str, dict[str, Any], int]] = {
    "blip-base": ("BlipConfig", {"text_config": {"encoder_hidden_size": 768}}, 384),
    "git-base-coco": ("GitConfig", {"vision_config": {"image_size": 224, "patch_size": 16}}, 224),
    "vit-gpt2": ("VisionEncoderDecoderConfig", {}, 224),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["blip-base"], help=f"of {', '.join(SIZES)}")
    args = parser.parse_args(argv)
    for name in args.names:
        for line in measured(name):
            print(line, flush=True)
    return 0


def measured(name: str) -> list[str]:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        encoder, decoder = _write(Path(folder), name)
        weights = Path(folder, "model.safetensors")
        pixels = torch.randn(1, 3, SIZES[name][2], SIZES[name][2])
        lines = [f"{name}: {_resident():.0f} MB before it is loaded"]
        lines += [f"{name} {line}" for line in _ours(encoder, decoder, weights, pixels)]
        return [*lines, f"{name} {_theirs(encoder, weights, pixels)}"]


def _write(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A published model of random weights in a folder; what a card says of its encoder and decoder."""
    import torch
    import transformers

    from captionbot.hub import family_of_config

    class_name, sizes, _ = SIZES[name]
    torch.manual_seed(0)
    if name == "vit-gpt2":
        gpt2 = transformers.GPT2Config(add_cross_attention=True)
        config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            transformers.ViTConfig(), gpt2
        )
        config.decoder_start_token_id = config.eos_token_id = config.pad_token_id = 50256
    else:
        config = getattr(transformers, class_name)(**sizes)
    values = json.loads(config.to_json_string(use_diff=False))
    family = family_of_config(values)
    getattr(transformers, family.model)(config).eval().save_pretrained(folder)
    spec = {"kind": "hub", "family": family.kind}
    return {**spec, "config": values}, {**spec, "prompt": list(family.prompt(values)), "question": []}


def _ours(encoder: Any, decoder: Any, weights: Path, pixels: Any) -> Iterator[str]:
    import torch

    from captionbot.backends.cpu import packed
    from captionbot.backends.cpu.precision import knows
    from captionbot.hub import loading
    from captionbot.search.beam import beam_search
    from captionbot.search.options import SearchOptions

    options = SearchOptions(beam_size=BEAMS, min_length=WORDS, max_length=WORDS)
    bos = decoder["prompt"][-1]
    for precision in ("float32", *["bfloat16"] * knows(torch.bfloat16)):
        parts = loading.split(loading.load(encoder, weights), encoder, decoder)
        encode, says = packed(*parts, precision)
        del parts
        with torch.inference_mode():
            photo = _seconds(partial(encode, pixels))
            features = encode(pixels)
            words = _seconds(
                partial(beam_search, says, features, bos_id=bos, eos_id=bos - 1, options=options)
            )
        yield (
            f"in {precision}: {photo + words:.2f} s, of which the photo {photo:.2f} s; {_resident():.0f} MB "
            "with it"
        )
        del encode, says, features


def _theirs(encoder: Any, weights: Path, pixels: Any) -> str:
    import torch

    from captionbot.hub import loading

    model = loading.load(encoder, weights).eval()
    length = {"min_new_tokens": WORDS + 1, "max_new_tokens": WORDS + 1}
    with torch.inference_mode():
        taken = _seconds(partial(model.generate, pixel_values=pixels, num_beams=BEAMS, **length))
    return f"by generate: {taken:.2f} s"


def _seconds(run: Callable[[], Any]) -> float:
    """Processor seconds of the better of two runs, after one that warms up."""
    run()
    taken = []
    for _ in range(2):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def _resident() -> float:
    """MB of memory that the process has; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0


if __name__ == "__main__":
    sys.exit(main())
