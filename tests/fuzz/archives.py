"""Captioners that visitors upload, as archives of a card, weights and a tokenizer."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutate import ODD, damaged, deep, in_turn, odd_json

MORE = (*range(8), 16, 64, 4096, 60_000, "gpt2", "bert", "lstm", "rnn", "regions", "pca", "vit_h_14", "../x")


@cache
def captioners() -> list[dict[str, bytes]]:
    """Files of small captioners: of a list of words, and of boxes."""
    from tiny import build_region_captioner, build_tiny_captioner

    with tempfile.TemporaryDirectory() as folder:
        cards = build_tiny_captioner(Path(folder) / "a"), build_region_captioner(Path(folder) / "b")
        return [
            {
                "mine.json": card.read_bytes(),
                "mine.safetensors": card.with_suffix(".safetensors").read_bytes(),
            }
            for card in cards
        ]


def zipped(files: dict[str, bytes], level: int = 1) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    random = Random(seed)

    def changed(**files: bytes) -> tuple[str, bytes]:
        good = random.choice(captioners())
        return "mine.zip", zipped(good | {name.replace("_", "."): data for name, data in files.items()})

    def odd_card() -> tuple[str, bytes]:
        good = random.choice(captioners())
        card = odd_json(json.loads(good["mine.json"]), random, MORE)
        return "mine.zip", zipped(good | {"mine.json": json.dumps(card).encode()})

    def odd_parts() -> tuple[str, bytes]:
        """Only what says how the captioner is built."""
        good = random.choice(captioners())
        card = json.loads(good["mine.json"])
        part = random.choice(("encoder", "decoder", "preprocessing", "search", "evidence", "shared"))
        card["sha256"] = ""
        card[part] = odd_json(card[part], random, MORE)
        return "mine.zip", zipped(good | {"mine.json": json.dumps(card).encode()})

    def damaged_card() -> tuple[str, bytes]:
        return changed(mine_json=damaged(random.choice(captioners())["mine.json"], random))

    def damaged_weights() -> tuple[str, bytes]:
        good = random.choice(captioners())
        card = json.loads(good["mine.json"]) | {"sha256": ""}
        weights = good["mine.safetensors"]
        length = 8 + struct.unpack("<Q", weights[:8])[0]
        if random.random() < 0.5:
            weights = damaged(weights[:length], random) + weights[length:]
        else:
            header = odd_json(json.loads(weights[8:length]), random, ("F64", "I8", "BF16", "U64", "F8_E4M3"))
            text = json.dumps(header).encode()
            weights = struct.pack("<Q", len(text)) + text + weights[length:]
        files = good | {"mine.json": json.dumps(card).encode(), "mine.safetensors": weights}
        return "mine.zip", zipped(files)

    def deep_card() -> tuple[str, bytes]:
        of = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"[[", b"")))
        return changed(mine_json=deep(random.choice((100, 1000, 100_000, 1_000_000)), of))

    def damaged_archive() -> tuple[str, bytes]:
        return "mine.zip", damaged(zipped(random.choice(captioners())), random)

    def many_members() -> tuple[str, bytes]:
        names = [f"{'x/' * random.choice((0, 1, 500))}{i}" for i in range(random.choice((300, 3000)))]
        return "mine.zip", zipped({name + random.choice((".json", ".txt", "")): b"" for name in names})

    def large_member() -> tuple[str, bytes]:
        data = random.choice((b"\0", b"[", b" ", b"9")) * random.choice((10**6, 3 * 10**7))
        return changed(**{f"mine_{random.choice(('json', 'safetensors', 'txt'))}": data})

    def odd_names() -> tuple[str, bytes]:
        good = random.choice(captioners())
        odd = (
            "\0",
            "..",
            "x" * 300,
            "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
            "ä",
            " ",
            "a\nb",
        )
        name = random.choice(odd)
        return "mine.zip", zipped({key.replace("mine", name): data for key, data in good.items()})

    def no_archive() -> tuple[str, bytes]:
        name = random.choice(
            ("x.json", "x.safetensors", "x.zip", "x.tar", "x.tar.gz", "x" * 300 + ".zip", "\0.json")
        )
        odd: Any = random.choice(ODD)
        return name, json.dumps(odd).encode() if random.random() < 0.5 else random.randbytes(100)

    return in_turn(
        random, odd_card, odd_parts, odd_parts, odd_parts, damaged_card, damaged_weights, deep_card,
        damaged_archive, many_members, large_member, odd_names, no_archive,
    )  # fmt: skip


def ready() -> None:
    for captioner in captioners():
        attack("mine.zip", zipped(captioner))


def attack(name: str, data: bytes) -> None:
    from captionbot.pages.uploads import load_captioner

    load_captioner([(name, data)])
