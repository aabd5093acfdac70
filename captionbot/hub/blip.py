"""BLIP (Li et al., arXiv 2201.12086): a ViT, and BERT's blocks with cross-attention to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.hub import HubConfig, HubDecoder, HubEmbedding, HubHead
from captionbot.hub.bert import block
from captionbot.hub.family import HubFamily, sized


class _Attention(nn.Module):
    """A ViT's attention by torch's own product, which keeps no weights: of 577 places they fill 16 MB a
    layer."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.qkv, self.projection, self.heads = layer.qkv, layer.projection, layer.num_heads

    def forward(self, hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
        """(B, P, C) -> (B, P, C), and no weights."""
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value)
        return self.projection(found.transpose(1, 2).flatten(2)), None


def _parts(model: Any) -> dict[str, nn.Module]:
    for layer in model.vision_model.encoder.layers:
        layer.self_attn = _Attention(layer.self_attn)
    return {"vision": model.vision_model}


def _see(parts: nn.ModuleDict, pixels: Tensor) -> Tensor:
    tokens: Tensor = parts["vision"](pixels).last_hidden_state
    return tokens


def _say(model: Any, spec: Mapping[str, Any]) -> HubDecoder:
    text, config = model.text_decoder, model.config.text_config
    e, head = text.bert.embeddings, text.cls.predictions
    return HubDecoder(
        HubConfig("blip", config.encoder_hidden_size),
        [block(layer, config.num_attention_heads, cross=True) for layer in text.bert.encoder.layer],
        HubEmbedding(e.word_embeddings, e.position_embeddings, e.LayerNorm),
        HubHead(head.decoder, head.transform),
        spec["prompt"],
    )


FAMILY = HubFamily(
    kind="blip",
    model_type="blip",
    model="BlipForConditionalGeneration",
    title=lambda config: sized("BLIP", config["vision_config"].get("hidden_size", 768)),
    style="bert",
    # [DEC] and [SEP]; the file's own eos_token_id, 2, is none of its tokenizer's ends.
    prompt=lambda config: (config["text_config"].get("bos_token_id", 30522),),
    end=lambda config: config["text_config"].get("sep_token_id", 102),
    parts=_parts,
    see=_see,
    say=_say,
    search={"beam_size": 3, "max_length": 20},
)
