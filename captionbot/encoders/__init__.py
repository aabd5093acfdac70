"""Encoders: pixels -> Features. One line a kind; a card names its kind and its configuration."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from captionbot.encoders.grid import GridConfig, GridEncoder, grid_boxes
from captionbot.encoders.pca import PCAConfig, PCAEncoder
from captionbot.encoders.regions import RegionEncoder, RegionsConfig

__all__ = [
    "ENCODERS",
    "GridConfig",
    "GridEncoder",
    "PCAConfig",
    "PCAEncoder",
    "RegionEncoder",
    "RegionsConfig",
    "build_encoder",
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
