"""In the place of an encoder: features that another project's extractor made, given as files."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captionbot.encoders.base import Encoder, EncoderKind
from captionbot.errors import CaptionBotError
from captionbot.types import Features

MOST_PLACES = 1024  # of an image


@dataclass(frozen=True)
class ReadyConfig:
    """What the features are like that a captioner learned from.

    feature_size: numbers of a place. places: the most that an image has. made_by: by what, in words.
    """

    feature_size: int = 2048
    places: int = 1
    made_by: str = "files of features"


class ReadyEncoder(Encoder):
    """Knows what features are like, and cannot make any."""

    def __init__(self, config: ReadyConfig, state_dict: dict[str, Tensor] | None = None) -> None:
        super().__init__(config)

    def forward(self, pixel_values: Tensor) -> Features:
        """Shapes on "meta"; of real pixels a CaptionBotError that says what is lacking."""
        config = self.config
        if not pixel_values.is_meta:
            raise CaptionBotError(
                f"This captioner learned from ready-made features ({config.made_by}: {config.feature_size:,} "
                "numbers a place) and cannot caption a photo without the program that made them; caption "
                "files of such features by `python -m training.evaluate --features PATH`."
            )
        shape = (len(pixel_values), config.places)
        return Features(
            torch.empty(*shape, config.feature_size, device="meta"), torch.empty(*shape, 4, device="meta")
        )


KIND = EncoderKind("ready", ReadyEncoder, ReadyConfig, limits={"places": MOST_PLACES})
