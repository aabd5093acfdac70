"""Encoders: pixels -> Features. A card names its kind and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from captionbot.encoders import concat, ensemble, grid, pca, ready, regions
from captionbot.encoders.base import Encoder, EncoderKind
from captionbot.encoders.concat import ConcatConfig, ConcatEncoder
from captionbot.encoders.ensemble import EnsembleEncoder, EnsembleEncoderConfig
from captionbot.encoders.grid import GridConfig, GridEncoder, grid_boxes
from captionbot.encoders.pca import PCAConfig, PCAEncoder
from captionbot.encoders.ready import ReadyConfig, ReadyEncoder
from captionbot.encoders.regions import RegionEncoder, RegionsConfig
from captionbot.errors import CaptionBotError, shortened
from captionbot.types import Features

__all__ = [
    "ENCODERS",
    "ConcatConfig",
    "ConcatEncoder",
    "Encoder",
    "EncoderKind",
    "EnsembleEncoder",
    "EnsembleEncoderConfig",
    "GridConfig",
    "GridEncoder",
    "PCAConfig",
    "PCAEncoder",
    "ReadyConfig",
    "ReadyEncoder",
    "RegionEncoder",
    "RegionsConfig",
    "build_encoder",
    "encoder_of",
    "features_on_meta",
    "grid_boxes",
]

ENCODERS: dict[str, EncoderKind] = {
    module.KIND.kind: module.KIND for module in (concat, ensemble, grid, pca, ready, regions)
}


def encoder_of(kind: str) -> EncoderKind:
    """The kind of encoder of a name; CaptionBotError with those that there are."""
    if kind not in [*ENCODERS]:  # a card may have any value there
        raise CaptionBotError(
            f"'{shortened(kind, 40)}' is not a kind of encoder; choose one of {', '.join(ENCODERS)}."
        )
    return ENCODERS[kind]


def build_encoder(
    kind: str, config: Mapping[str, Any], state_dict: dict[str, Tensor] | None = None
) -> Encoder:
    """A new encoder of a kind of `ENCODERS`, from weights of its CNN, or random until they are loaded."""
    return encoder_of(kind).build(config, state_dict)


def features_on_meta(encoder: Encoder, size: tuple[int, int]) -> Features:
    """`Encoder.on_meta`, by its name in version 0.1."""
    return encoder.on_meta(size)
