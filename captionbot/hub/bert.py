"""BERT's blocks as `transformers` names them, which BLIP and GIT share."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F

from captionbot.decoders.hub import HubAttention, HubBlock


def block(layer: Any, heads: int, cross: bool) -> HubBlock:
    def attention(part: Any, crosses: bool = False) -> HubAttention:
        own, out = part.self, part.output
        return HubAttention(own.query, own.key, own.value, out.dense, out.LayerNorm, heads, crosses)

    return HubBlock(
        attention(layer.attention),
        attention(layer.crossattention, crosses=True) if cross else None,
        layer.intermediate.dense,
        layer.output.dense,
        layer.output.LayerNorm,
        F.gelu,
    )
