"""Encoders: pixels -> Features. One line a kind; a card names its kind and its configuration."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from captionbot.encoders.grid import GridConfig, GridEncoder, grid_boxes
from captionbot.encoders.pca import PCAConfig, PCAEncoder
from captionbot.encoders.regions import RegionEncoder, RegionsConfig
from captionbot.types import Features

__all__ = [
    "ENCODERS",
    "GridConfig",
    "GridEncoder",
    "PCAConfig",
    "PCAEncoder",
    "RegionEncoder",
    "RegionsConfig",
    "build_encoder",
    "features_on_meta",
    "grid_boxes",
]

ENCODERS: dict[str, tuple[Any, type[Any]]] = {
    "grid": (GridEncoder, GridConfig),
    "pca": (PCAEncoder, PCAConfig),
    "regions": (RegionEncoder, RegionsConfig),
}


def build_encoder(
    kind: str, config: dict[str, Any], state_dict: dict[str, Tensor] | None = None
) -> nn.Module:
    """A new encoder of a kind of `ENCODERS`, from weights of its CNN, or random until they are loaded."""
    encoder, config_class = ENCODERS[kind]
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}  # JSON has no tuples
    return encoder(config_class(**config), state_dict)


def features_on_meta(encoder: nn.Module, size: tuple[int, int]) -> Features:
    """What an encoder gives of a photo of (height, width) pixels, as shapes without numbers.

    It takes milliseconds, as nothing is computed. Of boxes that a detector finds there are as many as may be.
    """
    network = encoder.grid if isinstance(encoder, RegionEncoder) else encoder
    tensors = {name: t.to("meta") for name, t in (*network.named_parameters(), *network.named_buffers())}
    pixels = torch.empty(1, 3, *size, device="meta")
    features = cast(Features, functional_call(network, tensors, (pixels,)))
    if isinstance(encoder, RegionEncoder):
        places = 1 + encoder.config.max_regions
        channels = features.values.shape[-1] + 5 * encoder.config.geometry
        return Features(pixels.new_empty(1, places, channels), pixels.new_empty(1, places, 4))
    return features
