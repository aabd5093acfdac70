"""Captions of data sets, in every form that training reads, predictions, and configurations of runs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from fuzz.mutate import ODD, damaged, deep, in_turn, odd_json

_ROWS = [{"image": "a/dog.jpg", "captions": ["A dog.", "a wet, happy dog"], "split": "train"}]
_ROWS += [{"file_name": "b\\cat.jpg", "text": "A cat \u2764\ufe0f", "split": "val"}]
_COCO = {
    "images": [{"id": 1, "file_name": "images/a.jpg"}, {"id": "2", "file_name": "b.jpg"}],
    "annotations": [{"id": i, "image_id": i % 2 + 1, "caption": f"caption {i}"} for i in range(4)],
}
_KARPATHY = {
    "images": [
        {"filename": f"{split}.jpg", "split": split, "cocoid": n, "sentences": [{"raw": "A dog ."}]}
        for n, split in enumerate(("train", "restval", "val", "test"))
    ]
}
_REGIONS = [{"id": n, "regions": [{"phrase": f"a {word}"} for word in ("dog", "cat")]} for n in (1, 2, 3)]
_JSON = {
    "captions_val.json": _COCO,
    "dataset_x.json": _KARPATHY,
    "region_descriptions.json": _REGIONS,
    "captions.json": _ROWS,
    "predictions.json": [{"image_id": n, "caption": "a dog"} for n in (1, 2)],
    "config.yaml": {
        "name": "x",
        "epochs": 2,
        "std": [1, 1, 1],
        "encoder_config": {"layer": "a"},
        "reward": {"cider": 1},
    },
}
_TEXTS = {
    "captions.csv": b'image,caption,split\ndog.jpg,"A wet, happy dog.",train\ncat.jpg,A cat.,val\n',
    "captions.txt": b"image,caption\ndog.jpg,A dog.\ncat.jpg,A cat, asleep.\n",
    "results.csv": b'image_name| comment_number| comment\n1.jpg| 0| Two "guys" .\n2.jpg| 4   A dog .\n',
    "Flickr8k.token.txt": b"1.jpg#0\tA dog .\n1.jpg#1\tA cat .\n2.jpg#0\tA man .\n",
    "captions.jsonl": "\n".join(map(json.dumps, _ROWS)).encode(),
    "metadata.jsonl": b'{"file_name": "a.jpg", "text": "a wall"}\n',
    "a.caption": b"a wall, red\n\nthe same\n",
    "a.txt": "ein M\u00e4dchen".encode("utf-16"),
    "text.jsonl": b'{"image": "a.jpg", "captions": ["a dog", "a cat"]}\n',
    "predictions.jsonl": b'{"image": "x/1.jpg", "captions": [{"text": "a"}]}\n{"image": "2", "error": "x"}\n',
    "config.yaml": b"name: x\nepochs: 3\nreward: {cider: 1.0}\n",
}
_LAUGHS = (b"%c: &%c [%s]\n" % (c + 1, c + 1, b",".join([b"*%c" % c] * 8)) for c in range(97, 115))
_YAML = (
    b"a: &a [1,1,1,1,1,1,1,1]\n" + b"".join(_LAUGHS),
    b"std: &x [*x, *x]\n",
    b"epochs: " + b"9" * 5000,
    b"epochs: 2024-99-99\nname: 1:2:3:4\n",
    b"epochs: 1e999\nstd: [.nan, .inf, 0]\n",
    b"encoder_config: " + b"{a: " * 5000,
    b"!!python/object/apply:os.system [ls]\n",
)  # fmt: skip


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    random = Random(seed)

    def odd() -> tuple[str, bytes]:
        name = random.choice(list(_JSON))
        text = json.dumps(odd_json(_JSON[name], random, ("x/a.jpg", "\\", "a" * 9000, [1, "a"])))
        return name, text.encode("utf-8", "replace")

    def damaged_json() -> tuple[str, bytes]:
        name = random.choice(list(_JSON))
        return name, damaged(json.dumps(_JSON[name]).encode(), random)

    def damaged_text() -> tuple[str, bytes]:
        name = random.choice(list(_TEXTS))
        return name, damaged(_TEXTS[name] * random.choice((1, 1, 50)), random)

    def recoded() -> tuple[str, bytes]:
        name = random.choice([name for name in _TEXTS if name != "a.txt"])
        text = _TEXTS[name].decode().replace("\n", random.choice(("\n", "\r\n", "\r", "\0\n")))
        return name, text.encode(
            random.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32", "utf-16-le")), "replace"
        )

    def long() -> tuple[str, bytes]:
        name = random.choice([*_JSON, *_TEXTS])
        piece = random.choice(
            (b"a-.", b"[", b'{"images": [', b'"', b"image,caption\n", b"#0\t", b"1.jpg#", b"\0", b"a,")
        )
        start = _TEXTS.get(name, b"")[: random.choice((0, 14, 40))]
        return name, start + piece * random.choice((10, 10_000, 50_000))

    def nested() -> tuple[str, bytes]:
        return random.choice([*_JSON, "captions.jsonl", "metadata.jsonl"]), deep(
            random.choice((100, 2000, 200_000))
        )

    def yaml() -> tuple[str, bytes]:
        value = str(random.choice(ODD)) if random.random() < 0.5 else ""
        return "config.yaml", f"epochs: {value}\n".encode("utf-8", "replace") if value else random.choice(
            _YAML
        )

    return in_turn(random, odd, odd, damaged_json, damaged_text, recoded, long, nested, yaml)


def attack(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        _read(path)


def _read(path: Path) -> None:
    from training.data.check import check
    from training.data.flickr import read_text_captions
    from training.data.formats import load_dataset
    from training.evaluation.predictions import captions_of, read_predictions
    from training.run.config import load_config

    if path.suffix == ".yaml":
        load_config(str(path))
    elif path.name.startswith("predictions"):
        from training.data import Example

        captions_of([Example("1.jpg", ("a dog",), "val", 1)], read_predictions(path), subset=True)
    elif path.name.startswith("text"):
        read_text_captions(path)
    else:
        if path.suffix in (".caption", ".txt"):
            (path.parent / "a.jpg").write_bytes(b"")
        examples = load_dataset(path.parent)
        check(examples, None)
        for example in examples:
            os.fsencode(example.split)


def ready() -> None:
    import training.data.check
    import training.data.formats
    import training.evaluation.predictions
    import training.run.config  # noqa: F401
