"""Put another CNN beside a captioner's own: `python -m training.widen NAME --architecture CNN ... --out DIR`.

The decoder gets the new channels with weights of zero, so that the captioner in DIR says what it said before,
and learns to use them as it is trained further (`training.train --init DIR`).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captionbot.cli.commands import Parser, command
from captionbot.decoders import Decoder, build_decoder
from captionbot.encoders import ConcatConfig, ConcatEncoder, GridConfig, GridEncoder, features_on_meta
from captionbot.errors import CaptionBotError
from captionbot.store import card as cards
from captionbot.store.card import Card
from training.run.captioners import load_to_train
from training.run.checkpoints import prepare_folder, read_weights, written
from training.run.config import check_least


@command
def main(arguments: Sequence[str] | None = None) -> int:
    summary, *_ = (__doc__ or "").splitlines()
    parser = Parser("python -m training.widen", description=summary)
    parser.add_argument("captioner", help="folder of a run, name or card of a captioner with one CNN")
    parser.add_argument(
        "--architecture", required=True, help="of the other CNN, by torchvision's or timm's name"
    )
    parser.add_argument("--layer", required=True, help="whose output is added")
    parser.add_argument("--size", type=int, required=True, help="of its photos, in pixels")
    parser.add_argument("--weights", type=Path, required=True, help="of that CNN, by the library's names")
    parser.add_argument("--out", type=Path, required=True, help="folder of the captioner with both")
    given = parser.parse_args(arguments)
    check_least(given, {"size": 1})
    prepare_folder(given.out, used=True)
    card, encoder, decoder = load_to_train(given.captioner)
    if not isinstance(encoder, GridEncoder) or encoder.config.grid:
        raise CaptionBotError(
            f"{card.name} sees through {card.encoder}; give a captioner with one CNN's grid."
        )
    other = GridEncoder(GridConfig(given.architecture, given.layer), read_weights(given.weights))
    wide, both = widened(card, encoder, decoder, other, given.size)
    with written("The captioner", given.out, "run the command again"):
        print(cards.save(given.out, wide, *both))
    return 0


def widened(
    card: Card, encoder: GridEncoder, decoder: Decoder, other: GridEncoder, size: int
) -> tuple[Card, tuple[ConcatEncoder, Decoder]]:
    """The card, and encoder and decoder with another CNN, which sees photos of size x size pixels."""
    if not (getattr(decoder.config, "normalise", False) and hasattr(decoder.config, "groups")):
        raise CaptionBotError(
            f"The decoder of {card.name} cannot normalise the channels of each CNN apart; give a captioner "
            "with soft attention that has `normalise`."
        )
    (own, _), cnns = card.preprocessing["size"], (encoder.config, other.config)
    config = ConcatConfig(
        tuple(cnn.architecture for cnn in cnns), tuple(cnn.layer for cnn in cnns), (own, size),
        encoder.config.mirror,
    )  # fmt: skip
    both = ConcatEncoder(config)
    for grid, part in zip(both.grids, (encoder, other), strict=True):
        grid.load_state_dict(part.state_dict())
    channels = features_on_meta(both, (own, own)).values.shape[-1]
    before = decoder.config.feature_size
    sizes = card.decoder | {"feature_size": channels, "groups": (before, channels - before)}
    wide = build_decoder(sizes["kind"], {k: v for k, v in sizes.items() if k != "kind"})
    wide.load_state_dict(
        {name: _padded(decoder.state_dict()[name], tensor) for name, tensor in wide.state_dict().items()}
    )
    card = dataclasses.replace(card, encoder=_spec(config), decoder=sizes, default=False)
    return card, (both, wide)


def _padded(old: Tensor, new: Tensor) -> Tensor:
    """Weights in the shape of new ones: zeros for channels that there were not, but the new ones' own numbers
    of a layer norm, which no layer behind it looks at yet."""
    if old.shape == new.shape:
        return old
    padded = new.clone() if new.ndim == 1 else torch.zeros_like(new)
    padded[tuple(slice(size) for size in old.shape)] = old
    return padded


def _spec(config: ConcatConfig) -> dict[str, Any]:
    return {"kind": "concat", **dataclasses.asdict(config)}


if __name__ == "__main__":
    sys.exit(main())
