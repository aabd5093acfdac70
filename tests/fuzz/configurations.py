"""YAML of training runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from fuzz.mutate import damaged, deep, in_turn, odd_json

_CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


def _aliases(levels: int, width: int) -> bytes:
    """A document whose aliases multiply: width ** levels entries, were they written out."""
    lines = [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * width)}]" for i in range(levels)]
    last = f"encoder_config: {{a: *a{levels}}}", f"teachers: *a{levels}"
    return "\n".join(("a0: &a0 [x]", *lines, *last)).encode()


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    import yaml

    random = Random(seed)
    good = [path.read_bytes() for path in sorted(_CONFIGS.rglob("*.yaml"))]

    def damage() -> tuple[str, bytes]:
        return "run.yaml", damaged(random.choice(good), random)

    def odd() -> tuple[str, bytes]:
        values = json.loads(json.dumps(yaml.safe_load(random.choice(good))))
        return "run.yaml", json.dumps(odd_json(values, random)).encode()

    def deep_yaml() -> tuple[str, bytes]:
        of = random.choice(((b"[", b"]"), (b"{a: ", b"}"), (b"- ", b""), (b"? ", b"")))
        return "run.yaml", b"teachers: " * random.randrange(2) + deep(random.choice((50, 1000, 20_000)), of)

    def aliases() -> tuple[str, bytes]:
        return "run.yaml", _aliases(random.choice((3, 9, 30)), random.choice((2, 10)))

    def odd_text() -> tuple[str, bytes]:
        texts = (
            b"a: &a [*a]", b"encoder_config: &a {x: *a}", b"teachers: !!python/object/apply:os.system [ls]",
            b"<<: [*x]", b"a: &a {<<: *a}", b"seed: 0x" + b"f" * 5000, b"seed: " + b"9" * 5000,
            b"epochs: 1:" + b"60:" * 9999, b"epochs: .inf", b"learning_rate: .nan", b"name: 2024-99-99",
            b"name: 2024-01-01 99:99:99", b"? [a]\n: b", b"\xff\xfe", b"\xef\xbb\xbf", b"---\n---\n",
            b"%YAML 9.9\n---\na: b", b"!!binary x", b"name: !!timestamp x", b"x" * 1_000_000, b"\0",
            b'name: "' + b"\\ud800" * 3 + b'"', b"name: " + b"'" * 100_001, b"&" * 10_000,
        )  # fmt: skip
        return "run.yaml", random.choice(texts)

    return in_turn(random, damage, odd, odd, deep_yaml, aliases, odd_text)


def attack(name: str, data: bytes) -> None:
    from training.run.config import load_config

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        load_config(str(path))
