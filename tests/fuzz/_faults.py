"""A target in which everything goes wrong that the runner watches for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from captionbot.errors import CaptionBotError


class Panic(BaseException):
    """As Rust raises."""


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    while True:
        for name in (
            "good", "sentence", "long", "lines", "error", "panic", "memory", "spins", "crash", "prints",
            "exits",
        ):  # fmt: skip
            yield name, b""


def attack(name: str, data: bytes) -> None:
    match name:
        case "sentence":
            raise CaptionBotError("This is no image: give one.")
        case "long":
            raise CaptionBotError("x" * 5000)
        case "lines":
            raise CaptionBotError("one\ntwo")
        case "error":
            raise ValueError("not ours")
        case "panic":
            raise Panic("in Rust")
        case "memory":
            held = []
            while True:
                held.append(b"x" * 50_000_000)
        case "spins":
            while time.time():
                pass
        case "crash":
            os.abort()
        case "prints":
            print("Traceback (most recent call last):", file=sys.stderr, flush=True)
        case "exits":
            sys.exit(0)
