"""Decoders: Features and the words so far -> the next word. One line a kind, as for the encoders."""

from __future__ import annotations

from typing import Any

from captionbot.decoders.base import Decoder, State
from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder

__all__ = ["DECODERS", "Decoder", "State", "build_decoder"]

DECODERS = {"soft-attention": (SoftAttentionDecoder, SoftAttentionConfig)}


def build_decoder(kind: str, config: dict[str, Any]) -> Decoder:
    """A new decoder of a kind of `DECODERS`, weights random until they are loaded."""
    decoder, config_class = DECODERS[kind]
    return decoder(config_class(**config))
