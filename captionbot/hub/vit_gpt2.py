"""ViT-GPT-2: a ViT and a GPT-2 with cross-attention, joined by `transformers`' VisionEncoderDecoderModel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.hub import (
    HubAttention,
    HubBlock,
    HubConfig,
    HubDecoder,
    HubEmbedding,
    HubHead,
    linear,
)
from captionbot.hub.family import Config, HubFamily


def _parts(model: Any) -> dict[str, nn.Module]:
    return {"vision": model.encoder, "projection": getattr(model, "enc_to_dec_proj", None) or nn.Identity()}


def _see(parts: nn.ModuleDict, pixels: Tensor) -> Tensor:
    tokens: Tensor = parts["projection"](parts["vision"](pixels).last_hidden_state)
    return tokens


def _block(layer: Any, heads: int) -> HubBlock:
    attn, cross = layer.attn, layer.crossattention
    query, key, value = (linear(attn.c_attn, i, 3) for i in range(3))
    seen_key, seen_value = (linear(cross.c_attn, i, 2) for i in range(2))
    asks = linear(cross.q_attn)
    return HubBlock(
        HubAttention(query, key, value, linear(attn.c_proj), layer.ln_1, heads),
        HubAttention(
            asks, seen_key, seen_value, linear(cross.c_proj), layer.ln_cross_attn, heads, crosses=True
        ),
        linear(layer.mlp.c_fc),
        linear(layer.mlp.c_proj),
        layer.ln_2,
        partial(F.gelu, approximate="tanh"),
        norm_first=True,
    )


def _say(model: Any, spec: Mapping[str, Any]) -> HubDecoder:
    gpt2, config = model.decoder.transformer, model.config.decoder
    return HubDecoder(
        HubConfig("vit-gpt2", config.hidden_size),
        [_block(layer, config.n_head) for layer in gpt2.h],
        HubEmbedding(gpt2.wte, gpt2.wpe),
        HubHead(model.decoder.lm_head),
        spec["prompt"],
        norm=gpt2.ln_f,
    )


def _start(config: Config) -> tuple[int, ...]:
    """The start, which some files name at the top and others in their decoder's part."""
    named = (
        part.get(key)
        for part in (config, config["decoder"])
        for key in ("decoder_start_token_id", "bos_token_id")
    )
    return (next(found for found in (*named, 50256) if found is not None),)


def _end(config: Config) -> int:
    named = (part.get("eos_token_id") for part in (config, config["decoder"]))
    return next(found for found in (*named, 50256) if found is not None)


FAMILY = HubFamily(
    kind="vit-gpt2",
    model_type="vision-encoder-decoder",
    model="VisionEncoderDecoderModel",
    title=lambda config: "ViT-GPT-2",
    style="gpt2",
    prompt=_start,
    end=_end,
    parts=_parts,
    see=_see,
    say=_say,
    search={"beam_size": 4, "max_length": 16},
    applies=lambda config: (
        config["encoder"].get("model_type") in ("vit", "deit")
        and config["decoder"].get("model_type") == "gpt2"
    ),
)
