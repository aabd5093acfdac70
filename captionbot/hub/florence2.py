"""Florence-2 (Xiao et al., arXiv 2311.06242): a DaViT, and a BART that is asked for a caption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.hub import HubAttention, HubBlock, HubConfig, HubDecoder, HubEmbedding, HubHead
from captionbot.hub.family import HubFamily, Variant, sized


def _parts(model: Any) -> dict[str, nn.Module]:
    return {"vision": model.model.vision_tower, "projection": model.model.multi_modal_projector}


def _see(parts: nn.ModuleDict, pixels: Tensor) -> Tensor:
    grid = parts["vision"](pixels)
    tokens: Tensor = parts["projection"](getattr(grid, "last_hidden_state", grid))  # a tensor in 5.0.0
    return tokens


class Question(nn.Module):
    """BART's encoder over the image's tokens and, behind them, those of a question."""

    def __init__(self, embedding: Any, encoder: Any, question: list[int]) -> None:
        super().__init__()
        self.embedding, self.encoder = embedding, encoder
        self.question_ids = question

    def forward(self, image: Tensor) -> Tensor:
        ids = torch.tensor([self.question_ids], device=image.device)
        asked = self.embedding(ids).expand(len(image), -1, -1)
        read: Tensor = self.encoder(
            inputs_embeds=torch.cat([image, asked.to(image.dtype)], 1)
        ).last_hidden_state
        return read


def _block(layer: Any, heads: int) -> HubBlock:
    def attention(part: Any, norm: nn.Module, crosses: bool = False) -> HubAttention:
        return HubAttention(part.q_proj, part.k_proj, part.v_proj, part.out_proj, norm, heads, crosses)

    return HubBlock(
        attention(layer.self_attn, layer.self_attn_layer_norm),
        attention(layer.encoder_attn, layer.encoder_attn_layer_norm, crosses=True),
        layer.fc1,
        layer.fc2,
        layer.final_layer_norm,
        F.gelu,
    )


def _say(model: Any, spec: Mapping[str, Any]) -> HubDecoder:
    bart, config = model.model.language_model, model.config.text_config
    said = bart.decoder
    scale = config.d_model**0.5 if config.scale_embedding else 1.0
    return HubDecoder(
        HubConfig("florence-2", config.d_model),
        [_block(layer, config.decoder_attention_heads) for layer in said.layers],
        HubEmbedding(
            said.embed_tokens, said.embed_positions, said.layernorm_embedding, offset=2, scale=scale
        ),
        HubHead(model.lm_head),
        spec["prompt"],
        context=Question(bart.get_input_embeddings(), bart.encoder, spec["question"]),
    )


FAMILY = HubFamily(
    kind="florence-2",
    model_type="florence2",
    model="Florence2ForConditionalGeneration",
    title=lambda config: sized("Florence-2", config["text_config"].get("d_model", 768)),
    style="gpt2",
    prompt=lambda config: (
        config["text_config"].get("decoder_start_token_id", 2),
        config["text_config"].get("forced_bos_token_id", 0) or 0,
    ),
    end=lambda config: config["text_config"].get("eos_token_id", 2),
    parts=_parts,
    see=_see,
    say=_say,
    search={"beam_size": 3, "max_length": 20, "no_repeat_ngram_size": 3},
    ask="What does the image describe?",
    variants={
        "detailed": Variant(
            "Describe in detail what is shown in the image.",
            {"beam_size": 3, "max_length": 60, "no_repeat_ngram_size": 3},
        ),
        "paragraph": Variant(
            "Describe with a paragraph what is shown in the image.",
            {"beam_size": 3, "max_length": 150, "no_repeat_ngram_size": 3},
        ),
    },
)
