"""What becomes of good files in hostile hands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

NUMBERS = (0, -1, 1, 2, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**12, 10**400)
ODD: tuple[Any, ...] = (
    *NUMBERS, None, True, False, 0.5, -0.5, 1e308, float("nan"), float("inf"), float("-inf"), "",
    "x" * 100_000, "a-." * 30_000, "\0", "\ud800", "../../etc/passwd", "/dev/zero", "<b>bold</b>",
    "(a+)+$", "(?:(?:a{99}){99}){99}",
    [], {}, [[]], [None], [0] * 10_000, {"": ""}, {"Fixed": 10**12},
)  # fmt: skip


def deep(depth: int, of: tuple[bytes, bytes] = (b"[", b"]")) -> bytes:
    return of[0] * depth + of[1] * depth


def damaged(data: bytes, random: Random) -> bytes:
    """The bytes with a few of them changed, left out, doubled, or made large numbers."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        at = random.randrange(len(changed) + 1)
        some = random.choice((1, 4, 16, 256))
        match random.randrange(6):
            case 0:
                changed[at : at + some] = random.randbytes(some)
            case 1:
                del changed[at : at + some]
            case 2:
                changed[at:at] = changed[at : at + some]
            case 3:
                width = random.choice((1, 2, 4, 8))
                number = random.choice(NUMBERS[:-2]) % 2 ** (8 * width)
                changed[at : at + width] = number.to_bytes(width, random.choice(("little", "big")))
            case 4:
                del changed[at:]
            case 5:
                changed[at:at] = random.choice((b"\0", b"\xff", b"{", b"]", b'"', b"\n")) * some
    return bytes(changed)


def odd_json(values: Any, random: Random, more: tuple[Any, ...] = ()) -> Any:
    """A copy of a tree of JSON in which a few places, wherever they are, hold what does not belong there."""
    copy = json.loads(json.dumps(values))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(copy))
        if not places:
            return random.choice(ODD)
        holder, key = random.choice(places)
        match random.randrange(5):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[random.choice(("", "x", "kind", "size", "\ud800", "y" * 1000))] = random.choice(ODD)
            case 2 if isinstance(holder, list):
                holder *= 2
            case _:
                holder[key] = random.choice(ODD + more)
    return copy


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Each dict and list of a tree with each of its keys, few of a list that is long."""
    if isinstance(values, dict | list):
        keys = list(values) if isinstance(values, dict) else list(range(len(values)))[:8]
        for key in keys:
            yield values, key
            yield from _places(values[key])


def in_turn(random: Random, *makers: Callable[[], tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Endless inputs of several makers, each as often as the others."""
    while True:
        for make in random.sample(makers, len(makers)):
            yield make()
