"""The interface of all encoders: pixels -> Features, and the record in which a module says what it has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from captionbot.types import Features


class Encoder(nn.Module, ABC):
    """Pixels -> Features: what is at each place of an image, and where the place lies.

    config: the frozen dataclass that it was built from.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, pixel_values: Tensor) -> Features:
        """(B, 3, H, W) normalised pixels -> the features of B images."""

    def on_meta(self, size: tuple[int, int]) -> Features:
        """What it gives of a photo of (height, width) pixels, as shapes without numbers.

        It takes milliseconds, as nothing is computed. Where places differ from photo to photo there are as
        many as may be.
        """
        pixels = torch.empty(1, 3, *size, device="meta")
        tensors = {name: t.to("meta") for name, t in (*self.named_parameters(), *self.named_buffers())}
        return cast(Features, functional_call(self, tensors, (pixels,)))


@dataclass(frozen=True)
class EncoderKind:
    """A kind of encoder.

    kind: what cards and `--encoder` call it. It is in the cards of captioners, and stays.
    encoder, config: the classes; an encoder is built of its configuration, and of weights or None.
    limits: the most that the card of a stranger may ask for, by the configuration's field, where fields of
        all kinds do not say it (`captionbot.pages.uploads`).
    """

    kind: str
    encoder: type[Encoder]
    config: type[Any]
    limits: Mapping[str, int] = field(default_factory=dict)

    def build(self, config: Mapping[str, Any], state_dict: dict[str, Tensor] | None = None) -> Encoder:
        """A new encoder from weights of its CNN, or random until they are loaded."""
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}  # JSON has no tuples
        build: Any = self.encoder
        made: Encoder = build(self.config(**values), state_dict)
        return made
