"""The vision encoders of the Hugging Face Hub's captioners: models of `transformers`, their places a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from captionbot.encoders.base import Encoder
from captionbot.encoders.grid import grid_boxes
from captionbot.types import Features

_AT_ONCE = 4  # photos on a CPU: of 577 places, the weights of attention alone have 16 MB a photo and layer


@dataclass(frozen=True)
class HubEncoderConfig:
    """family: a key of `captionbot.hub.FAMILIES`; config: the whole model's config.json."""

    family: str
    config: dict[str, Any] = field(default_factory=dict)


class HubEncoder(Encoder):
    """What a published model sees of a photo.

    Features: the patches as places, and the class token or what is pooled of them beside.
    """

    def __init__(
        self,
        config: HubEncoderConfig,
        parts: dict[str, nn.Module],
        tokens: Callable[[nn.ModuleDict, Tensor], Tensor],
        beside: int = 1,
    ) -> None:
        """tokens: parts and (B, 3, H, W) pixels -> (B, E + P, C), the first `beside` of them no places."""
        super().__init__(config)
        self.parts, self.tokens, self.beside = nn.ModuleDict(parts), tokens, beside

    def forward(self, pixel_values: Tensor) -> Features:
        few = _AT_ONCE if pixel_values.device.type == "cpu" else len(pixel_values)
        tokens = torch.cat([self.tokens(self.parts, photos) for photos in pixel_values.split(few)])
        beside, values = tokens[:, : self.beside], tokens[:, self.beside :]
        side = isqrt(values.shape[1])
        if side * side != values.shape[1]:
            raise ValueError(f"its {values.shape[1]} places are no square")
        boxes = grid_boxes(side, side).to(values.device)
        return Features(values, boxes, (side, side), beside=beside if self.beside else None)
