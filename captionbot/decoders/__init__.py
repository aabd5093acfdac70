"""Decoders: Features and the words so far -> the next word. One line a kind, as for the encoders."""

from __future__ import annotations

from typing import Any

from captionbot.decoders import from_scratch, gpt2_prefix, soft_attention, transformer
from captionbot.decoders.base import Decoder, State
from captionbot.decoders.from_scratch import ScratchRecurrentDecoder
from captionbot.decoders.gpt2_prefix import GPT2PrefixConfig, GPT2PrefixDecoder
from captionbot.decoders.packing import Packers
from captionbot.decoders.recurrent import RecurrentConfig
from captionbot.decoders.show_and_tell import ShowAndTellDecoder
from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder
from captionbot.decoders.top_down import TopDownConfig, TopDownDecoder
from captionbot.decoders.transformer import TransformerConfig, TransformerDecoder
from captionbot.search.reranker import WordEvidence

__all__ = ["DECODERS", "Decoder", "State", "WordEvidence", "build_decoder", "packers"]

DECODERS: dict[str, tuple[type[Decoder], type[Any]]] = {
    "gpt2-prefix": (GPT2PrefixDecoder, GPT2PrefixConfig),
    "show-and-tell": (ShowAndTellDecoder, RecurrentConfig),
    "soft-attention": (SoftAttentionDecoder, SoftAttentionConfig),
    "scratch-recurrent": (ScratchRecurrentDecoder, RecurrentConfig),
    "scratch-transformer": (TransformerDecoder, TransformerConfig),
    "top-down": (TopDownDecoder, TopDownConfig),
}


def build_decoder(kind: str, config: dict[str, Any]) -> Decoder:
    """A new decoder of a kind of `DECODERS`, weights random until they are loaded."""
    decoder, config_class = DECODERS[kind]
    return decoder(config_class(**config))


def packers() -> Packers:
    """How modules of all families are packed, where a backend needs to be told."""
    families = (from_scratch, gpt2_prefix, soft_attention, transformer)
    return {kind: packer for family in families for kind, packer in family.PACKERS.items()}
