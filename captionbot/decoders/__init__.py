"""Decoders: Features and the words so far -> the next word. One module a family; `registry` finds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from captionbot.decoders.base import Decoder, DecoderConfig, State
from captionbot.decoders.family import Equations, Family
from captionbot.decoders.registry import FAMILIES, family_of, packers, register

__all__ = [
    "FAMILIES",
    "Decoder",
    "DecoderConfig",
    "Equations",
    "Family",
    "State",
    "build_decoder",
    "family_of",
    "packers",
    "register",
]


def build_decoder(kind: str, config: Mapping[str, Any]) -> Decoder:
    """A new decoder of a kind of `FAMILIES`, weights random until they are loaded."""
    return family_of(kind).build(config)
