"""Tokenizers: tokenizer.json, and folders with a vocabulary and its merges. A name is KIND/FILE."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutate import damaged, deep, in_turn, odd_json

_WORDPIECES = (  # noqa: SIM905 (a list of so many strings is harder to read)
    "[PAD] [unused0] [UNK] [CLS] [SEP] [MASK] a the dog run ball t ##board ##er ##s ' - s ."
).split()
_PARTS: dict[str, tuple[Any, ...]] = {
    "padding": (
        {
            "strategy": {"Fixed": 10**12}, "direction": "Right", "pad_id": 0, "pad_token": "a",
        },
        {
            "strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": 2**62, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "a",
        },
    ),
    "truncation": ({"max_length": 0, "stride": 2**40, "strategy": "LongestFirst", "direction": "Right"},),
    "added_tokens": (
        [{"id": 2**63, "content": "x"}], [{"id": -1, "content": "x"}], [{"id": 0.5, "content": "x"}],
        [{"id": 0}],
        [{"id": 0, "content": "a", "single_word": True, "lstrip": True, "rstrip": True, "special": True}],
        [{"id": 256, "content": "y" * 1000}], [{"id": 256, "content": ""}], [{"id": 256, "content": "\0"}],
        [{"id": i + 256, "content": f"t{i}"} for i in range(5000)], {"a": 1}, ["a"],
    ),
    "normalizer": (
        {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "a" * 10**6},
        {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
        {"type": "Prepend", "prepend": "x" * 10**6},
        {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
        {"type": "BertNormalizer", "lowercase": 5},
        {"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 10_000},
    ),
    "pre_tokenizer": (
        {"type": "Split", "pattern": {"Regex": "(?:(?:a{99}){99}){99}"}, "behavior": "Removed"},
        {"type": "Sequence", "pretokenizers": []},
        {"type": "Metaspace", "replacement": "xyz", "add_prefix_space": True},
        {"type": "FixedLength", "length": 0},
    ),
    "post_processor": (
        {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
        {"type": "BertProcessing", "sep": ["x", 2**40], "cls": ["y", -1]},
    ),
    "decoder": ({"type": "Strip", "content": "ab", "start": 2**63, "stop": 1}, {"type": "CTC"}),
}  # fmt: skip


@cache
def tokenizers() -> dict[str, dict[str, Any]]:
    """A small tokenizer of each kind, as the library writes it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("Ġ", "a"), ("d", "o"), ("do", "g")]
    bpe = Tokenizer(
        models.BPE(letters | {a + b: len(letters) + i for i, (a, b) in enumerate(merges)}, merges)
    )
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    pieces = Tokenizer(models.WordPiece({w: i for i, w in enumerate(_WORDPIECES)}, unk_token="[UNK]"))
    pieces.normalizer, pieces.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    pieces.decoder = decoders.WordPiece()
    return {"gpt2": json.loads(bpe.to_str()), "bert": json.loads(pieces.to_str())}


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    random = Random(seed)

    def odd_part() -> tuple[str, bytes]:
        kind, part = random.choice(("gpt2", "bert")), random.choice(sorted(_PARTS))
        values = tokenizers()[kind] | {part: random.choice(_PARTS[part])}
        return f"{kind}/tokenizer.json", json.dumps(values).encode()

    def odd() -> tuple[str, bytes]:
        kind = random.choice(("gpt2", "bert"))
        return f"{kind}/tokenizer.json", json.dumps(odd_json(tokenizers()[kind], random)).encode()

    def odd_model() -> tuple[str, bytes]:
        kind = random.choice(("gpt2", "bert"))
        values = tokenizers()[kind]
        model = odd_json(values["model"], random, ("BPE", "WordPiece", "Unigram", "##", "\ud83d", "é"))
        return f"{kind}/tokenizer.json", json.dumps(values | {"model": model}).encode()

    def damage() -> tuple[str, bytes]:
        kind = random.choice(("gpt2", "bert"))
        return f"{kind}/tokenizer.json", damaged(json.dumps(tokenizers()[kind]).encode(), random)

    def deep_json() -> tuple[str, bytes]:
        of = random.choice(((b"[", b"]"), (b'{"model":', b"}")))
        return "gpt2/tokenizer.json", deep(random.choice((900, 100_000)), of)

    def vocabulary() -> tuple[str, bytes]:
        model = tokenizers()["gpt2"]["model"]
        match random.randrange(3):
            case 0:
                return "bert/vocab.txt", damaged("\n".join(_WORDPIECES).encode(), random)
            case 1:
                return "gpt2/vocab.json", damaged(json.dumps(model["vocab"]).encode(), random)
            case _:
                return "gpt2/merges.txt", damaged("\n".join(map(" ".join, model["merges"])).encode(), random)

    return in_turn(random, odd_part, odd_part, odd, odd_model, damage, deep_json, vocabulary)


def attack(name: str, data: bytes) -> None:
    from captionbot.text.vocabulary import SubwordVocabulary

    kind, _, file = name.partition("/")
    with tempfile.TemporaryDirectory() as folder:
        if file == "merges.txt":
            vocabulary = tokenizers()["gpt2"]["model"]["vocab"]
            (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        elif file == "vocab.json":
            (Path(folder) / "merges.txt").write_text("Ġ a", encoding="utf-8")
        (Path(folder) / file).write_bytes(data)
        vocabulary = SubwordVocabulary.load(kind, folder)
        ids = vocabulary.encode(["a", "dog", "'", "s", "😀", "runs", "--", "x"])
        vocabulary.text(ids)
        vocabulary.pieces(ids)
        vocabulary.pieces(range(min(300, len(vocabulary))))
        vocabulary.save(Path(folder) / "saved.json")
        assert SubwordVocabulary.load(kind, Path(folder) / "saved.json").tokens == vocabulary.tokens
        vocabulary.require(["dog", "x" * 1000])
