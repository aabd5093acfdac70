"""Captions and numbers as people read them."""

from __future__ import annotations

import re


def sentence(text: str) -> str:
    """A caption as people write it: "a dog runs" -> "A dog runs."."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def percent(probability: float) -> str:
    """0.426 -> "43%", and "<1%" rather than a "0%" that would read as impossible."""
    return "<1%" if probability < 0.01 else f"{probability:.0%}"


def plain(text: str) -> str:
    """Text in which no character is taken for Markdown."""
    return re.sub(r"([\\`*_\[\]<>#$:~|])", r"\\\1", text)
