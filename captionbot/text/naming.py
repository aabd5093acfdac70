"""How captions name things twice: "a bench on a bench" against "a brown dog and a white dog"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from captionbot.text.parts_of_speech import parts_of_speech, word_set

_APART = word_set("another one two three four five six seven eight nine ten")


class Naming(NamedTuple):
    """What a search asks of the words of a vocabulary, by their ids.

    nouns, adjectives: what is one of these whatever stands beside it.
    apart: what may tell a thing from another of its name: adjectives, numbers, and nouns ("a stop sign").
    joining: "and", behind which a thing may be named again ("a woman and a woman").
    """

    nouns: tuple[int, ...] = ()
    adjectives: tuple[int, ...] = ()
    apart: tuple[int, ...] = ()
    joining: tuple[int, ...] = ()


def naming(tokens: Sequence[str]) -> Naming:
    """Of a vocabulary of whole words."""
    parts = {i: parts_of_speech([token])[0] for i, token in enumerate(tokens) if token.isalpha()}
    nouns, adjectives = (tuple(i for i, p in parts.items() if p == part) for part in ("noun", "adjective"))
    others = tuple(i for i in parts if tokens[i] in _APART)
    return Naming(
        nouns, adjectives, nouns + adjectives + others, tuple(i for i in parts if tokens[i] == "and")
    )
