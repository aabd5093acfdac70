"""Checkpoints, pickles and arrays of other projects, as the importers read them."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutate import NUMBERS, damaged, in_turn, odd_json

_WORDS = ["<PAD>", "<SOS>", "<EOS>", "<UNK>", "a", "dog", "runs"]


class _Vocabulary:
    __module__, __qualname__ = "vocab", "Vocab_Builder"


@cache
def checkpoints() -> dict[str, bytes]:
    """Small files of each kind, by what they are called."""
    import numpy as np
    import torch

    kinds = torch.float32, torch.int64
    state = OrderedDict((f"fc.{i}", torch.ones(3, 4, dtype=kind)) for i, kind in enumerate(kinds))
    files = {}
    for name, is_zip in (("zip.pth", True), ("of-2018.pth", False)):
        out = io.BytesIO()
        torch.save({"state_dict": state, "epoch": 3}, out, _use_new_zipfile_serialization=is_zip)
        files[name] = out.getvalue()
    out = io.BytesIO()
    np.savez_compressed(out, Wh=np.ones((3, 4), np.float32), b=np.ones(3))
    files["arrays.npz"] = out.getvalue()
    return files


def vocabulary() -> bytes:
    """A pickle such as sankalp1999's, by its instructions: the class itself is not here."""
    import pickletools

    class Named(pickle._Pickler):  # type: ignore[misc, name-defined]
        def save_global(self, obj: Any, name: str | None = None) -> None:
            self.write(pickle.GLOBAL + b"vocab\nVocab_Builder\n")
            self.memoize(obj)

        dispatch = pickle._Pickler.dispatch | {type: save_global}  # type: ignore[attr-defined]

    out = io.BytesIO()
    found = _Vocabulary()
    found.itos, found.stoi = dict(enumerate(_WORDS)), {w: i for i, w in enumerate(_WORDS)}  # type: ignore[attr-defined]
    Named(out, protocol=2).dump(found)
    assert pickletools.optimize(out.getvalue())
    return out.getvalue()


def _pickles(random: Random) -> bytes:
    """Instructions that ask for much, or for what is not there."""
    number = random.choice(NUMBERS[:-2]) % 2**32
    many = random.choice((10, 1000, 100_000))
    twice = [
        pickle.BINGET
        + bytes([i])
        + pickle.BINGET
        + bytes([i])
        + pickle.TUPLE2
        + pickle.BINPUT
        + bytes([i + 1])
        for i in range(200)
    ]
    tuples = pickle.EMPTY_TUPLE + pickle.BINPUT + b"\0" + b"".join(twice)
    stub = pickle.GLOBAL + b"vocab\nVocab_Builder\n"
    listing = pickle.BINUNICODE + struct.pack("<I", 2) + b"ls" + pickle.TUPLE1
    return b"\x80\x02" + random.choice((
        b"N" + pickle.LONG_BINPUT + struct.pack("<I", number) + b".",
        pickle.LONG_BINGET + struct.pack("<I", number) + b".",
        pickle.BINUNICODE + struct.pack("<I", number) + b"x.",
        pickle.BINBYTES8 + struct.pack("<Q", 2**40) + b"x.",
        pickle.BYTEARRAY8 + struct.pack("<Q", 2**33) + b"x.",
        pickle.LONG4 + struct.pack("<i", 2**31 - 1) + b".",
        pickle.FRAME + struct.pack("<Q", 2**62) + b"N.",
        pickle.EMPTY_DICT * many + b".",
        pickle.EMPTY_LIST * many + pickle.APPEND * (many - 1) + b".",
        pickle.EMPTY_SET * many + b".",
        pickle.MARK * many + b".",
        pickle.EMPTY_DICT + tuples + pickle.NONE + pickle.SETITEM + b".",
        stub + pickle.EMPTY_TUPLE + pickle.NEWOBJ + pickle.EMPTY_DICT + pickle.BUILD + b".",
        pickle.GLOBAL + b"os\nsystem\n" + listing + pickle.REDUCE + b".",
        pickle.GLOBAL + b"x" * many + b"\n" + b"y" * many + b"\n.",
        pickle.INT + b"9" * many + b"\n.",
        pickle.LONG + b"9" * many + b"L\n.",
        pickle.STRING + b"'" + b"x" * many + b"'\n.",
    ))  # fmt: skip


def _stored(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


@cache
def _bomb(in_storage: bool) -> bytes:
    """A zip of less than a megabyte with a member of 200 MB."""
    with zipfile.ZipFile(io.BytesIO(checkpoints()["zip.pth"])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    large = "/data/0" if in_storage else "/data.pkl"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            with archive.open(name, "w", force_zip64=True) as member:
                if name.endswith(large):
                    for _ in range(20):
                        member.write(bytes(10_000_000))
                else:
                    member.write(data)
    return out.getvalue()


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    import numpy as np

    random = Random(seed)

    def damage() -> tuple[str, bytes]:
        name = random.choice(sorted(checkpoints()))
        return name, damaged(checkpoints()[name], random)

    def damaged_pickle() -> tuple[str, bytes]:
        """Inside a sound zip."""
        with zipfile.ZipFile(io.BytesIO(checkpoints()["zip.pth"])) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = next(name for name in members if name.endswith("/data.pkl"))
        members[name] = damaged(members[name], random)
        return "zip.pth", _stored(members)

    def odd_pickle() -> tuple[str, bytes]:
        data = _pickles(random)
        match random.randrange(3):
            case 0:
                return "vocabulary.pickle", data
            case 1:
                return "of-2018.pth", data
            case _:
                return "zip.pth", _stored({"a/data.pkl": data})

    def damaged_vocabulary() -> tuple[str, bytes]:
        return "vocabulary.pickle", damaged(vocabulary(), random)

    def large_members() -> tuple[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(checkpoints()["zip.pth"])) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = random.choice(sorted(members))
        members[name] = bytes(random.choice((10**6, 10**7)))
        return "zip.pth", _stored(members, zipfile.ZIP_DEFLATED)

    def bomb() -> tuple[str, bytes]:
        return "zip.pth", _bomb(random.randrange(2))

    def odd_arrays() -> tuple[str, bytes]:
        shape, dtype = (
            random.choice(((10**9,), (2**40, 2**40), (-1,), (0, 10**12), (3,))),
            random.choice(("<f4", "|O", "<U100", "|V0", "[('a', '<f4')]", "<M8[s]", ">f8", "x")),
        )
        header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\0" * 12
        if random.random() < 0.3:
            out = io.BytesIO()
            np.save(out, np.zeros(random.choice((10, 1_000_000))))
            array = out.getvalue() * random.choice((1, 3))
        return "arrays.npz", _stored({"Wh.npy": array}, zipfile.ZIP_DEFLATED)

    def odd_words() -> tuple[str, bytes]:
        return "words.json", json.dumps(odd_json({"itos": _WORDS}, random)).encode()

    return in_turn(
        random, damage, damaged_pickle, odd_pickle, odd_pickle, damaged_vocabulary, large_members, odd_arrays,
        bomb, odd_words,
    )  # fmt: skip


def ready() -> None:
    for name, data in checkpoints().items():
        attack(name, data)


def attack(name: str, data: bytes) -> None:
    from captionbot.store.importers import import_captioner, read_checkpoint, read_vocabulary
    from captionbot.store.importers.arrays import read_arrays

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        if name.startswith("vocabulary"):
            read_vocabulary(path)
        elif name.endswith(".npz"):
            read_arrays(path)
        elif name.endswith(".json"):
            import_captioner("sankalp1999", [path], Path(folder) / "out", "out")
        else:
            read_checkpoint(path)
