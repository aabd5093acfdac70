"""Put another CNN beside a captioner's own: `python -m training.widen NAME --architecture CNN ... --out DIR`,
or that of a captioner that has both: `python -m training.widen NAME --like CAPTIONER --out DIR`.

The decoder gets the new channels with weights of zero, so that the captioner in DIR says what it said before,
and learns to use them as it is trained further (`training.train --init DIR`). One that sees its CNN through a
PCA gets principal components of the new channels behind its own; its layer norm is over all of them, so that
it says a little else before it is trained.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captionbot.cli.commands import Parser, command
from captionbot.decoders import Decoder, build_decoder
from captionbot.encoders import (
    ConcatConfig,
    ConcatEncoder,
    GridConfig,
    GridEncoder,
    PCAConfig,
    PCAEncoder,
    RegionEncoder,
    build_encoder,
)
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.store import card as cards
from captionbot.store.card import Card
from training.run.captioners import load_to_train
from training.run.checkpoints import prepare_folder, read_weights, written
from training.run.config import TrainingConfig, check_least
from training.run.distributed import World
from training.run.splits import read_splits
from training.run.tasks import means_of

CNN_FLAGS = ("architecture", "layer", "size", "weights")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    summary, *_ = (__doc__ or "").splitlines()
    defaults = TrainingConfig()
    parser = Parser("python -m training.widen", description=summary)
    parser.add_argument("captioner", help="folder of a run, name or card of a captioner with one CNN")
    parser.add_argument("--like", metavar="CAPTIONER", help="one with two CNNs, the captioner's own first")
    parser.add_argument("--architecture", help="of the other CNN, by torchvision's or timm's name")
    parser.add_argument("--layer", help="whose output is added")
    parser.add_argument("--size", type=int, help="of its photos, in pixels")
    parser.add_argument("--weights", type=Path, help="of that CNN, by the library's names")
    parser.add_argument(
        "--components", type=int, default=256, help="of the new channels, behind a PCA (default: %(default)s)"
    )
    parser.add_argument("--data", default=defaults.data, help="data set whose photos a PCA is fitted to")
    parser.add_argument("--images", default=defaults.images, help="its photos, where they lie apart")
    parser.add_argument("--cache", default=defaults.cache, help="folder for decoded photos and features")
    parser.add_argument("--out", type=Path, required=True, help="folder of the captioner with both")
    given = parser.parse_args(arguments)
    check_least(given, {"components": 1} | ({} if given.size is None else {"size": 1}))
    if bool(given.like) == any(getattr(given, flag) for flag in CNN_FLAGS) or not (
        given.like or all(getattr(given, flag) for flag in CNN_FLAGS)
    ):
        raise CaptionBotError(
            "Give either --like CAPTIONER, or all of --architecture, --layer, --size and --weights."
        )
    prepare_folder(given.out, used=True)
    card, encoder, decoder = load_to_train(given.captioner)
    own = encoder if isinstance(encoder, GridEncoder) else getattr(encoder, "grid", None)
    if not isinstance(own, GridEncoder) or own.config.grid:
        raise CaptionBotError(
            f"{card.name} sees through {card.encoder}; give a captioner with one CNN's grid."
        )
    both = _like(given.like, own) if given.like else _beside(given, own, card.preprocessing["size"][0])
    pooled = _pooled(both, card, given) if isinstance(encoder, PCAEncoder) else None
    wide, parts = widened(card, encoder, decoder, both, pooled, given.components)
    with written("The captioner", given.out, "run the command again"):
        print(cards.save(given.out, wide, *parts))
    return 0


def widened(
    card: Card,
    encoder: nn.Module,
    decoder: Decoder,
    both: ConcatEncoder,
    pooled: np.ndarray | None = None,
    components: int = 0,
) -> tuple[Card, tuple[nn.Module, Decoder]]:
    """The card, encoder and decoder with both CNNs, of which the captioner had the first.

    pooled: (n, C) mean features of photos by both, for the captioner that has a PCA, with so many more
        components.
    """
    wide_encoder: nn.Module
    cnns, own = dataclasses.asdict(both.config), decoder.config.feature_size
    groups: tuple[int, ...] = ()
    if isinstance(encoder, PCAEncoder):
        assert pooled is not None
        wide_encoder = _with_components(encoder, both, pooled, components)
        spec = {"kind": "pca", **_without_cnn(dataclasses.asdict(wide_encoder.config))}
        kept = torch.arange(own)
    else:
        channels = _channels(both, card)
        first = _channels(both.grids[0], card)
        kept = torch.cat([torch.arange(first), torch.arange(channels, channels + own - first)])
        groups = (first, channels + own - 2 * first)
        if isinstance(encoder, RegionEncoder):
            spec = _without_cnn(card.encoder) | {"cnns": cnns}
            wide_encoder = build_encoder("regions", {k: v for k, v in spec.items() if k != "kind"})
            wide_encoder.load_state_dict(
                {k: t for k, t in encoder.state_dict().items() if not k.startswith("grid.")}
                | {f"grid.{k}": t for k, t in both.state_dict().items()}
            )
        else:
            spec, wide_encoder = {"kind": "concat", **cnns}, both
    added = _channels(wide_encoder, card) - own
    sizes = card.decoder | {"feature_size": own + added}
    if hasattr(decoder.config, "groups"):
        sizes |= {"groups": groups}
    elif groups:
        raise CaptionBotError(
            f"The decoder of {card.name} cannot normalise the channels of each CNN apart; give a captioner "
            "of another family, or one that sees through a PCA."
        )
    wide = build_decoder(sizes["kind"], {k: v for k, v in sizes.items() if k != "kind"})
    tensors = decoder.state_dict()
    wide.load_state_dict(
        {name: _padded(name, tensors[name], tensor, kept) for name, tensor in wide.state_dict().items()}
    )
    card = dataclasses.replace(card, encoder=spec, decoder=sizes, default=False)
    return card, (wide_encoder, wide)


def _like(name: str, own: GridEncoder) -> ConcatEncoder:
    """The CNNs of a captioner whose first is another's own."""
    card, both, _ = load_to_train(name)
    if isinstance(both, ConcatEncoder):
        first = both.grids[0].state_dict()
        shapes = {name: tensor.shape for name, tensor in own.state_dict().items()}
        if shapes == {name: tensor.shape for name, tensor in first.items()}:
            return both
    raise CaptionBotError(
        f"{card.name} sees through {card.encoder}; give one with several CNNs, of which the first is "
        f"{own.config.architecture} to {own.config.layer}."
    )


def _beside(given: argparse.Namespace, own: GridEncoder, size: int) -> ConcatEncoder:
    """A captioner's CNN, for photos of size x size pixels, and the one that the flags describe."""
    other = GridEncoder(GridConfig(given.architecture, given.layer), read_weights(given.weights))
    cnns = (own.config, other.config)
    config = ConcatConfig(
        tuple(cnn.architecture for cnn in cnns), tuple(cnn.layer for cnn in cnns), (size, given.size),
        own.config.mirror,
    )  # fmt: skip
    both = ConcatEncoder(config)
    for grid, part in zip(both.grids, (own, other), strict=True):
        grid.load_state_dict(part.state_dict())
    return both


def _with_components(
    encoder: PCAEncoder, both: ConcatEncoder, pooled: np.ndarray, components: int
) -> PCAEncoder:
    """The PCA of the first CNN's channels, and behind it one of the others', of the same size on average."""
    from sklearn.decomposition import PCA

    first, (_, channels) = len(encoder.mean), pooled.shape
    most = min(len(pooled), channels - first)
    if components > most:
        raise CaptionBotError(
            f"{len(pooled)} photos and {channels - first} new channels give at most {most} components; give "
            "fewer --components."
        )
    pca = PCA(components, random_state=0).fit(pooled[:, first:])
    before = (torch.from_numpy(pooled[:, :first]) - encoder.mean) @ encoder.components.T
    scale = float(before.var(0).mean() / pca.explained_variance_.mean()) ** 0.5
    config = PCAConfig(
        feature_size=channels,
        components=len(encoder.components) + components,
        cnns=dataclasses.asdict(both.config),
    )
    wide = PCAEncoder(config)
    wide.grid.load_state_dict(both.state_dict())
    wide.mean.copy_(torch.cat([encoder.mean, torch.from_numpy(pca.mean_)]))
    new = scale * torch.from_numpy(pca.components_)
    wide.components.copy_(torch.block_diag(encoder.components, new))
    return wide.eval()


def _pooled(both: ConcatEncoder, card: Card, given: argparse.Namespace) -> np.ndarray:
    """(n, C) float32: the mean features of the training photos of a data set."""
    config = dataclasses.replace(TrainingConfig(), data=given.data, images=given.images, cache=given.cache)
    world, preprocessing = World(torch.device("cpu")), Preprocessing.from_json(card.preprocessing)
    return means_of(read_splits(config)[0], config, both, preprocessing, world).numpy()


def _channels(encoder: Any, card: Card) -> int:
    channels: int = encoder.on_meta(tuple(card.preprocessing["size"])).values.shape[-1]
    return channels


def _without_cnn(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in ("architecture", "layer", "mirror")}


def _padded(name: str, old: Tensor, new: Tensor, kept: Tensor) -> Tensor:
    """Weights in the shape of new ones: zeros for channels that there were not, but the new ones' own numbers
    of a layer norm, which no layer behind it looks at yet.

    kept: (C,) where the old channels are among the new ones. A layer may read them behind other numbers.
    """
    if old.shape == new.shape:
        return old
    padded = new.clone() if new.ndim == 1 else torch.zeros_like(new)
    at = []
    for size, wanted in zip(old.shape, new.shape, strict=True):
        others = size - len(kept)
        if size != wanted and others and name != "lstm.weight_ih":
            raise CaptionBotError(f"{name} reads features among other numbers; give an annotation_size.")
        at.append(torch.arange(size) if size == wanted else torch.cat([torch.arange(others), others + kept]))
    padded[torch.meshgrid(*at, indexing="ij")] = old
    return padded


if __name__ == "__main__":
    sys.exit(main())
