"""GIT (Wang et al., arXiv 2205.14100): CLIP's ViT, whose tokens are a prefix of the words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from captionbot.decoders.hub import HubConfig, HubDecoder, HubEmbedding, HubHead
from captionbot.hub.bert import block
from captionbot.hub.family import HubFamily, sized


def _see(parts: nn.ModuleDict, pixels: Tensor) -> Tensor:
    tokens: Tensor = parts["projection"](parts["vision"](pixels).last_hidden_state)
    return tokens


def _say(model: Any, spec: Mapping[str, Any]) -> HubDecoder:
    config, e = model.config, model.git.embeddings
    return HubDecoder(
        HubConfig("git", config.hidden_size),
        [block(layer, config.num_attention_heads, cross=False) for layer in model.git.encoder.layer],
        HubEmbedding(e.word_embeddings, e.position_embeddings, e.LayerNorm),  # words begin at position 0
        HubHead(model.output),
        spec["prompt"],
        prefix=True,
    )


FAMILY = HubFamily(
    kind="git",
    model_type="git",
    model="GitForCausalLM",
    title=lambda config: sized("GIT", config["vision_config"].get("hidden_size", 768)),
    style="bert",
    prompt=lambda config: (config.get("bos_token_id", 101),),  # [CLS]
    end=lambda config: config.get("eos_token_id", 102),  # [SEP]
    parts=lambda model: {"vision": model.git.image_encoder, "projection": model.git.visual_projection},
    see=_see,
    say=_say,
    search={"beam_size": 4, "max_length": 20},
    applies=lambda config: not config.get("num_image_with_embedding"),  # of videos
)
