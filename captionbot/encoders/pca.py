"""A CNN's pooled features, reduced by principal component analysis: one place, the whole image.

Stanford's CS231n captions images by VGG16's fc7 (4096 numbers behind its ReLU), reduced to 512.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captionbot.encoders.base import Encoder, EncoderKind
from captionbot.encoders.concat import cnn_of
from captionbot.encoders.grid import GridConfig, grid_boxes
from captionbot.types import Features


@dataclass(frozen=True)
class PCAConfig:
    """Which layer of which CNN, its width, and how many components are kept of it.

    mirror: as of `GridConfig`.
    cnns: several CNNs side by side (`ConcatConfig`) in the place of the one; {} for that.
    """

    architecture: str = "vgg16"
    layer: str = "classifier.4"
    feature_size: int = 4096
    components: int = 512
    mirror: bool = False
    cnns: dict[str, Any] = field(default_factory=dict)


class PCAEncoder(Encoder):
    """z = W (x - m) of the pooled features x, with the mean m and the components W of a fitted PCA."""

    mean: Tensor
    components: Tensor

    def __init__(
        self, config: PCAConfig, state_dict: dict[str, Tensor] | None = None, grid: nn.Module | None = None
    ) -> None:
        """state_dict: the encoder's own, as `training.fit.pca` writes it; None: nothing is fitted yet.

        grid: what looks at photos in the place of CNNs of its own.
        """
        super().__init__(config)
        self.grid = grid or cnn_of(
            config.cnns, GridConfig(config.architecture, config.layer, mirror=config.mirror)
        )
        self.register_buffer("mean", torch.zeros(config.feature_size))
        self.register_buffer("components", torch.eye(config.components, config.feature_size))
        if state_dict is not None:
            self.load_state_dict(state_dict)

    def forward(self, pixel_values: Tensor) -> Features:
        """(B, 3, H, W) normalised pixels -> B images of one place with as many numbers as components."""
        reduced = (self.pooled(pixel_values) - self.mean) @ self.components.T
        return Features(reduced.unsqueeze(1), grid_boxes(1, 1).to(reduced.device), (1, 1))

    def pooled(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C) of the layer, averaged over its places where it has several."""
        features: Features = self.grid(pixel_values)
        return features.values.mean(1)


KIND = EncoderKind("pca", PCAEncoder, PCAConfig)
