"""The encoders of an ensemble's members side by side, so that its decoders read one record of features.

A CNN that several members have looks at a photo once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captionbot.encoders import concat, grid
from captionbot.encoders.base import Encoder, EncoderKind
from captionbot.encoders.pca import PCAConfig, PCAEncoder
from captionbot.errors import CaptionBotError, shortened
from captionbot.fields import check_fields
from captionbot.types import Features

_CNNS = {kind.kind: kind for kind in (concat.KIND, grid.KIND)}


@dataclass(frozen=True)
class EnsembleEncoderConfig:
    """What is looked with.

    cnns: {"kind": grid or concat, **configuration}, each once.
    looks: for each kind of features {"cnn": the place of its CNN in `cnns`}, and behind a PCA `feature_size`
        and `components` (`PCAConfig`).
    """

    cnns: tuple[dict[str, Any], ...]
    looks: tuple[dict[str, Any], ...]


class EnsembleEncoder(Encoder):
    """The channels of every look, one after the other, at each place of the finest grid.

    What has a single place, the whole photo, stands at all places alike.
    """

    def __init__(self, config: EnsembleEncoderConfig, state_dict: dict[str, Tensor] | None = None) -> None:
        super().__init__(config)
        self.cnns = nn.ModuleList(map(_cnn, config.cnns))
        self.heads = nn.ModuleList(map(_head, config.looks))
        if state_dict is not None:
            self.load_state_dict(state_dict)

    def forward(self, pixel_values: Tensor) -> Features:
        """(B, 3, H, W) normalised pixels -> B images of P places with the channels of all looks."""
        seen = [cnn(pixel_values) for cnn in self.cnns]
        parts = [head(seen[look["cnn"]]) for head, look in zip(self.heads, self.config.looks, strict=True)]
        finest = max(parts, key=lambda part: part.values.shape[1])
        if len({part.grid for part in parts} - {(1, 1)}) > 1:
            grids = ", ".join(f"{part.grid[0]} x {part.grid[1]}" for part in parts)
            raise CaptionBotError(
                f"The captioners see grids of {grids} places; give such as see the same places, or the whole "
                "photo."
            )
        places = finest.values.shape[1]
        values = torch.cat([part.values.expand(-1, places, -1) for part in parts], -1)
        return Features(values, finest.boxes, finest.grid)


def _cnn(spec: Mapping[str, Any]) -> Encoder:
    if spec["kind"] not in [*_CNNS]:
        raise CaptionBotError(
            f"An ensemble cannot see through '{shortened(spec['kind'], 40)}'; its CNNs are of the kinds "
            f"{', '.join(_CNNS)}."
        )
    cnn = _CNNS[spec["kind"]].build({k: v for k, v in spec.items() if k != "kind"})
    check_fields(cnn.config)
    return cnn


def _head(look: Mapping[str, Any]) -> nn.Module:
    """What makes a look's features of its CNN's."""
    if "components" not in look:
        return nn.Identity()
    config = PCAConfig(feature_size=look["feature_size"], components=look["components"])
    check_fields(config)
    return PCAEncoder(config, grid=nn.Identity())


KIND = EncoderKind("ensemble", EnsembleEncoder, EnsembleEncoderConfig)
