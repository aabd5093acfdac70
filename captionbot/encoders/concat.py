"""Several CNNs look at one photo, and each cell has the channels of all of them.

A CNN that was fine-tuned on captions sees best what those show, and has forgotten much of what ImageNet
taught it; one that was left as it was beside it still knows that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.encoders.base import Encoder, EncoderKind
from captionbot.encoders.grid import GridConfig, GridEncoder
from captionbot.errors import CaptionBotError, shortened
from captionbot.fields import check_fields
from captionbot.types import Features


@dataclass(frozen=True)
class ConcatConfig:
    """Which CNNs, which layer of each, and how large it takes photos.

    sizes: height and width in pixels. Photos come in the size of the preprocessing, and a CNN of another size
        gets them resized. All CNNs must give as many rows and columns.
    mirror: as of `GridConfig`.
    """

    architectures: tuple[str, ...]
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    mirror: bool = False


class ConcatEncoder(Encoder):
    """Grid encoders side by side. Their channels are of different sizes, so the decoder normalises those of
    each CNN apart (`groups` of its configuration)."""

    def __init__(self, config: ConcatConfig, state_dict: dict[str, Tensor] | None = None) -> None:
        """state_dict: the encoder's own, as `training.widen` writes it; None: random weights."""
        super().__init__(config)
        if not len(config.architectures) == len(config.layers) == len(config.sizes):
            raise CaptionBotError(
                f"There are {len(config.architectures)} architectures, {len(config.layers)} layers and "
                f"{len(config.sizes)} sizes; give one of each for every CNN."
            )
        pairs = zip(config.architectures, config.layers, strict=True)
        self.grids = nn.ModuleList(GridEncoder(GridConfig(*pair, mirror=config.mirror)) for pair in pairs)
        if state_dict is not None:
            self.load_state_dict(state_dict)

    def forward(self, pixel_values: Tensor) -> Features:
        """(B, 3, H, W) normalised pixels -> B images of P = rows * columns places in reading order."""
        seen = [
            grid(resized(pixel_values, size))
            for grid, size in zip(self.grids, self.config.sizes, strict=True)
        ]
        if len({features.grid for features in seen}) > 1:
            grids = ", ".join(f"{rows} x {columns}" for rows, columns in (f.grid for f in seen))
            raise CaptionBotError(f"The CNNs give grids of {grids} places; choose sizes that give the same.")
        return Features(torch.cat([f.values for f in seen], -1), seen[0].boxes, seen[0].grid)


def cnn_of(
    cnns: Mapping[str, Any], cnn: GridConfig, state_dict: dict[str, Tensor] | None = None
) -> GridEncoder | ConcatEncoder:
    """What gives the features that another encoder makes its own of: several CNNs, or the one.

    cnns: a `ConcatConfig` as a card has it; {} for the one CNN.
    """
    if not cnns:
        return GridEncoder(cnn, state_dict)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in cnns.items()}
    try:
        config = ConcatConfig(**values)
    except TypeError:
        raise CaptionBotError(
            f"cnns has {', '.join(map(shortened, cnns))}; give architectures, layers and sizes."
        ) from None
    check_fields(config)
    return ConcatEncoder(config, state_dict)


def resized(pixel_values: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, size, size), itself where it is of that size."""
    if pixel_values.shape[-2:] == (size, size):
        return pixel_values
    rows = pixel_values.contiguous()  # torch takes twice as long where the three colours lie side by side
    return F.interpolate(rows, (size, size), mode="bilinear", antialias=True, align_corners=False)


KIND = EncoderKind("concat", ConcatEncoder, ConcatConfig)
