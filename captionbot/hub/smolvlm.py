"""SmolVLM2 (Marafioti et al., arXiv 2504.05299): a SigLIP, and a Llama that is asked in a chat.

The photo is seen as one tile: its 64 tokens stand in the visitor's words, before the instruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.cache import Cache
from captionbot.decoders.hub import HubConfig, HubDecoder, HubEmbedding, HubHead
from captionbot.hub.family import Config, HubFamily


def _parts(model: Any) -> dict[str, nn.Module]:
    return {"vision": model.model.vision_model, "connector": model.model.connector}


def _see(parts: nn.ModuleDict, pixels: Tensor) -> Tensor:
    config: Any = parts["vision"].config
    rows, columns = (side // config.patch_size for side in pixels.shape[2:])
    whole = torch.ones(len(pixels), rows, columns, dtype=torch.bool)
    seen = parts["vision"](pixel_values=pixels, patch_attention_mask=whole.to(pixels.device))
    tokens: Tensor = parts["connector"](seen.last_hidden_state)
    return tokens


class LlamaBlock(nn.Module):
    """Llama's block, of which several queries share their keys and values; positions turn both."""

    def __init__(self, layer: Any, turn: Any, heads: int) -> None:
        super().__init__()
        own, feed = layer.self_attn, layer.mlp
        self.query, self.key, self.value, self.out = own.q_proj, own.k_proj, own.v_proj, own.o_proj
        self.gate, self.widen, self.narrow = feed.gate_proj, feed.up_proj, feed.down_proj
        self.norm, self.norm_after = layer.input_layernorm, layer.post_attention_layernorm
        self.turn, self.width = turn, own.q_proj.out_features // heads

    def forward(
        self, hidden: Tensor, cache: Cache | None, sees: Tensor, image: None, position: Tensor
    ) -> tuple[Tensor, Cache, Tensor]:
        """As `HubBlock.forward`; the image is among the tokens. position: (B, Q)."""
        x = self.norm(hidden)
        query, key, value = (
            made(x).unflatten(-1, (-1, self.width)).transpose(1, 2)
            for made in (self.query, self.key, self.value)
        )
        cos, sin = (part.unsqueeze(1) for part in self.turn(x, position))
        query, key = (part * cos + _turned(part) * sin for part in (query, key))
        cache = Cache(key, value) if cache is None else cache.appended(key, value)
        heads, words = key.shape[1], key.shape[2]
        shared = query.unflatten(1, (heads, -1)).flatten(2, 3)  # the queries of each key, side by side
        scores = (shared @ cache.keys.mT / self.width**0.5).unflatten(2, (-1, words))
        weights = scores.masked_fill(~sees[:, None, None], float("-inf")).softmax(-1)
        found = (weights.flatten(2, 3) @ cache.values).unflatten(2, (-1, words))  # (B, heads, of each, Q, d)
        found = found.flatten(1, 2).transpose(1, 2).flatten(2)
        hidden = hidden + self.out(found)
        x = self.norm_after(hidden)
        return hidden + self.narrow(F.silu(self.gate(x)) * self.widen(x)), cache, weights.flatten(1, 2)


def _turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


def _say(model: Any, spec: Mapping[str, Any]) -> HubDecoder:
    llama, config = model.model.text_model, model.config
    asked = list(spec["question"])
    begins, count = asked.index(config.image_token_id), asked.count(config.image_token_id)
    return HubDecoder(
        HubConfig("smolvlm", config.text_config.hidden_size),
        [
            LlamaBlock(layer, llama.rotary_emb, config.text_config.num_attention_heads)
            for layer in llama.layers
        ],
        HubEmbedding(llama.embed_tokens),
        HubHead(model.lm_head),
        spec["prompt"],
        norm=llama.norm,
        around=(asked[:begins], asked[begins + count :]),
    )


def _chat(tokenizer: Any, config: Config, ask: str) -> tuple[list[int], int]:
    vision = config["vision_config"]
    side = vision.get("image_size", 512) // vision.get("patch_size", 16) // config.get("scale_factor", 4)
    around = "<fake_token_around_image>"
    text = (
        f"<|im_start|>User:{around}<global-img>{'<image>' * side**2}{around}{ask}<end_of_utterance>\n"
        "Assistant:"
    )
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return ids, tokenizer.token_to_id("<end_of_utterance>")


def _title(config: Config) -> str:
    size = {576: "256M", 960: "500M", 2048: "2.2B"}
    width = config["text_config"].get("hidden_size", 960)
    return f"SmolVLM ({size.get(width, f'{width} wide')})"


FAMILY = HubFamily(
    kind="smolvlm",
    model_type="smolvlm",
    model="SmolVLMForConditionalGeneration",
    title=_title,
    style="gpt2",
    parts=_parts,
    see=_see,
    say=_say,
    beside=0,
    space_first=True,
    search={"beam_size": 3, "max_length": 40, "no_repeat_ngram_size": 3},
    ask="Describe this photo in one short sentence.",
    chat=_chat,
)
