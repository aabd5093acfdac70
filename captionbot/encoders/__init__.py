"""Encoders: pixels -> Features. One line a kind; a card names its kind and its configuration."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captionbot.encoders.grid import GridConfig, GridEncoder, grid_boxes

__all__ = ["ENCODERS", "GridConfig", "GridEncoder", "build_encoder", "grid_boxes"]

ENCODERS = {"grid": (GridEncoder, GridConfig)}


def build_encoder(
    kind: str, config: dict[str, Any], state_dict: dict[str, Tensor] | None = None
) -> GridEncoder:
    """A new encoder of a kind of `ENCODERS`, from weights of its CNN, or random until they are loaded."""
    encoder, config_class = ENCODERS[kind]
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}  # JSON has no tuples
    return encoder(config_class(**config), state_dict)
