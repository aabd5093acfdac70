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
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

WORDS, BEAMS = 12, 5
MODELS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("hub_models.json").read_text(encoding="utf-8")
)
"""Configurations, as far as they differ from what transformers takes for granted."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["blip-base"], help=f"of {', '.join(MODELS)}")
    parser.add_argument("--ours", action="store_true", help="leave out generate, which takes the longest")
    args = parser.parse_args(argv)
    for name in args.names:
        for line in measured(name, against=not args.ours):
            print(line, flush=True)
    return 0


def measured(name: str, against: bool = True) -> Iterator[str]:
    """Lines on one captioner. against: whether generate is asked too."""
    import torch

    from captionbot.hub import loading

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        encoder, decoder = written(Path(folder), name)
        weights = Path(folder, "model.safetensors")
        side = MODELS[name].get("image_size") or loading.image_size(encoder)
        pixels = torch.randn(1, 3, side, side)
        yield f"{name}: {_resident():.0f} MB before it is loaded"
        for line in _ours(encoder, decoder, weights, pixels):
            yield f"{name} {line}"
        if against:
            yield f"{name} {_theirs(encoder, decoder, weights, pixels)}"


def configured(name: str) -> dict[str, Any]:
    """The whole config.json of a published captioner."""
    import transformers

    facts = MODELS[name]
    config = getattr(transformers, facts["config_class"])(**facts["config"])
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return values


def written(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A published model of random weights in a folder; what a card says of its encoder and decoder."""
    import torch
    import transformers

    from captionbot.hub import family_of_config

    values = configured(name)
    family = family_of_config(values)
    config = transformers.CONFIG_MAPPING[family.model_type].from_dict(deepcopy(values))
    torch.manual_seed(0)
    getattr(transformers, family.model)(config).eval().save_pretrained(folder)
    spec = {"kind": "hub", "family": family.kind}
    return {**spec, "config": values}, {**spec, **_asked(family, values)}


def _asked(family: Any, config: dict[str, Any]) -> dict[str, Any]:
    """What stands before the words, of about the true length; which ids does not matter here."""
    if family.chat is None:
        return {"prompt": list(family.prompt(config)), "question": [0] * 8 * bool(family.ask)}
    sees = config["vision_config"]
    image = [config["image_token_id"]] * (
        sees["image_size"] // sees["patch_size"] // config["scale_factor"]
    ) ** 2
    return {"prompt": [11], "question": [1, 2, 3, 4, *image, *range(5, 25)]}


def _ours(encoder: Any, decoder: Any, weights: Path, pixels: Any) -> Iterator[str]:
    import torch

    from captionbot.backends.cpu import packed
    from captionbot.backends.cpu.precision import knows
    from captionbot.hub import loading
    from captionbot.pages.offers import product
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
            products = (photo + words) / min(_seconds(product()) for _ in range(4))
        yield (
            f"in {precision}: {photo + words:.2f} s, of which the photo {photo:.2f} s; {_resident():.0f} MB "
            f"with it; worth {products:.0f} products"
        )
        del encode, says, features


def _theirs(encoder: Any, decoder: Any, weights: Path, pixels: Any) -> str:
    from types import SimpleNamespace

    import torch

    from captionbot.generate import asked_of_generate
    from captionbot.hub import loading

    card: Any = SimpleNamespace(encoder=encoder, decoder=decoder)
    asked = asked_of_generate(card, pixels)[0] | {"use_cache": True}  # of GIT too: what is timed may be wrong
    model = loading.load(encoder, weights).eval()
    length = {"min_new_tokens": WORDS + 1, "max_new_tokens": WORDS + 1}
    with torch.inference_mode():
        taken = _seconds(partial(model.generate, **asked, num_beams=BEAMS, **length))
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
