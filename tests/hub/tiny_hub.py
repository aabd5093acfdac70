"""Published families with random weights, small enough to be made in a blink, as folders of the Hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = (  # noqa: SIM905
    "a the man woman dog cat surf foot white red on in with t don shirt ball ##board ##ball ##s ##ing - ' , "
    ". s"
).split()
WORDS = (  # noqa: SIM905
    "a the man woman dog cat surf white red on in with t don shirt ball board s ing Two New"
).split()
SIZE = 32  # pixels of a side, in patches of 8


def bert_tokenizer(pieces: Sequence[str] = PIECES) -> Tokenizer:
    ids = {piece: i for i, piece in enumerate([*SPECIAL, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def gpt2_tokenizer(*special: str) -> Tokenizer:
    """Byte pairs of which whole words are made, with a space before them and without, letter by letter."""
    ids = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in ids:
                ids[word[:end]] = len(ids)
                merges.append((word[: end - 1], word[end - 1]))
        ids[f"Ġ{word}"] = len(ids)
        merges.append(("Ġ", word))
    for token in special:
        ids.setdefault(token, len(ids))
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*special])
    return tokenizer


def blip(pieces: Sequence[str] = PIECES) -> tuple[Any, Tokenizer, dict[str, Any]]:
    tokenizer = bert_tokenizer(pieces)
    count = tokenizer.get_vocab_size()
    layers = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.BlipConfig(
        text_config={
            **layers, "vocab_size": count + 2, "encoder_hidden_size": 24, "max_position_embeddings": 64,
            "bos_token_id": count, "sep_token_id": 3, "eos_token_id": 2, "pad_token_id": 0,
            "projection_dim": 32,
        },
        vision_config={
            **layers, "hidden_size": 24, "image_size": SIZE, "patch_size": 8, "initializer_range": 0.02,
        },
        projection_dim=32,
        image_text_hidden_size=32,
    )  # fmt: skip
    return transformers.BlipForConditionalGeneration(config), tokenizer, {"resample": 3}


def git() -> tuple[Any, Tokenizer, dict[str, Any]]:
    tokenizer = bert_tokenizer()
    layers = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.GitConfig(
        **layers, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=64,
        bos_token_id=2, eos_token_id=3, pad_token_id=0, tie_word_embeddings=False,
        vision_config={**layers, "hidden_size": 24, "image_size": SIZE, "patch_size": 8},
    )  # fmt: skip
    crop = {"do_center_crop": True, "crop_size": {"height": SIZE, "width": SIZE}}
    return (
        transformers.GitForCausalLM(config),
        tokenizer,
        {"resample": 3, "size": {"shortest_edge": SIZE}, **crop},
    )


def vit_gpt2() -> tuple[Any, Tokenizer, dict[str, Any]]:
    tokenizer = gpt2_tokenizer("<|endoftext|>")
    count = tokenizer.get_vocab_size()
    vit = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=SIZE,
        patch_size=8,
    )  # fmt: skip
    gpt2 = transformers.GPT2Config(
        vocab_size=count, n_positions=64, n_embd=24, n_layer=2, n_head=4, add_cross_attention=True,
        bos_token_id=count - 1, eos_token_id=count - 1,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vit, gpt2)
    config.decoder_start_token_id = config.eos_token_id = config.bos_token_id = count - 1
    config.pad_token_id = count - 1
    return transformers.VisionEncoderDecoderModel(config), tokenizer, {"resample": 2, "size": SIZE}


def florence2() -> tuple[Any, Tokenizer, dict[str, Any]]:
    tokenizer = gpt2_tokenizer("<s>", "<pad>", "</s>", "<unk>", "<loc_0>", "<image>")
    of = tokenizer.token_to_id
    patches = {"patch_size": (7, 3), "patch_stride": (4, 2), "patch_padding": (3, 1)}
    vision = transformers.Florence2VisionConfig(
        **patches, patch_prenorm=(False, True), depths=(1, 1), embed_dim=(16, 24), num_heads=(2, 4),
        num_groups=(2, 4), window_size=4, projection_dim=24,
    )  # fmt: skip
    bart = transformers.BartConfig(
        vocab_size=tokenizer.get_vocab_size(), d_model=24, max_position_embeddings=64,
        encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, bos_token_id=of("<s>"), pad_token_id=of("<pad>"),
        eos_token_id=of("</s>"), decoder_start_token_id=of("</s>"), forced_bos_token_id=of("<s>"),
        forced_eos_token_id=None,
    )  # fmt: skip
    config = transformers.Florence2Config(
        vision_config=vision, text_config=bart, image_token_id=of("<image>"), bos_token_id=of("<s>"),
        eos_token_id=of("</s>"), pad_token_id=of("<pad>"), decoder_start_token_id=of("</s>"),
    )  # fmt: skip
    return transformers.Florence2ForConditionalGeneration(config), tokenizer, {"resample": 3}


def smolvlm() -> tuple[Any, Tokenizer, dict[str, Any]]:
    special = ("<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<fake_token_around_image>")
    tokenizer = gpt2_tokenizer(*special, "<global-img>", "<image>")
    of = tokenizer.token_to_id
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.SmolVLMConfig(
        vision_config={**layers, "hidden_size": 24, "image_size": SIZE, "patch_size": 4},
        text_config={
            **layers, "model_type": "llama", "hidden_size": 32, "num_key_value_heads": 2,
            "vocab_size": tokenizer.get_vocab_size() + 2, "max_position_embeddings": 256,
            "bos_token_id": of("<|im_start|>"), "eos_token_id": of("<|im_end|>"), "pad_token_id": 0,
        },
        image_token_id=of("<image>"), scale_factor=2, tie_word_embeddings=False, pad_token_id=0,
    )  # fmt: skip
    tiles = {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": SIZE}}
    return transformers.SmolVLMForConditionalGeneration(config), tokenizer, {"resample": 1, **tiles}


MODELS = {
    "blip": blip,
    "git": git,
    "vit-gpt2": vit_gpt2,
    "florence-2": florence2,
    "smolvlm": smolvlm,
}


FACTORS = {
    "blip": (5, 1, 5),
    "git": (5, 2, 5),
    "vit-gpt2": (8, 2, 3),
    "florence-2": (8, 1, 8),
    "smolvlm": (5, 1, 5),
}
"""Of all matrices, of cross-attention's values once more, and of words: so that photos make a difference."""
_CROSS = ("crossattention", "encoder_attn")
_VALUES = ("value", "output.dense", "c_proj", "v_proj", "out_proj")
_WORDS = ("wte", "word_embeddings", "embed_tokens", "shared")


def build(folder: Path, kind: str) -> Any:
    """Write a model as its authors would publish it; the model."""
    torch.manual_seed(0)
    model, tokenizer, pixels = MODELS[kind]()
    factor, of_cross, of_words = FACTORS[kind]

    def has(name: str, parts: tuple[str, ...]) -> bool:
        return any(part in name for part in parts)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 4 and has(name, ("patch", "conv")):
                parameter.mul_(10)
            elif parameter.ndim > 1 and "position" not in name:
                crossed = factor * of_cross if has(name, _CROSS) and has(name, _VALUES) else factor
                parameter.mul_(of_words if has(name, _WORDS) else crossed)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
    publish(folder, model, tokenizer, pixels)
    return model


def publish(folder: Path, model: Any, tokenizer: Tokenizer, pixels: dict[str, Any]) -> None:
    model.eval().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    sides = {"height": SIZE, "width": SIZE}
    usual = {"size": sides, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(usual | pixels))
