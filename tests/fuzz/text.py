"""What visitors type: beginnings of captions and words to avoid, and captions as they are scored."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from fuzz.mutate import in_turn

if TYPE_CHECKING:
    from captionbot.text.vocabulary import Vocabulary

_PIECES = (
    "a", "dog", "'s", "n't", "cannot", "-", ".", ",", "a-.", "www.", "http://", ".com", "co.uk", "@a", "#a",
    "1/2", "12:30", "AT&T", "&amp;", "&lt;", "(", "]", "-lrb-", "_", "/", "!", "?!", "<pad>", "<eos>",
    "<unk>", "कुत्ता", "สุนัข", "cafe\u0301", "\u200d", "\u200b", "\ufe0f", "\u20e3", "\U0001f600", "\ufeff",
    "\u202e", "\u0301", "\0", "\x1b[2J", "\x85", "\u2028", "\r", "\t", " ", "\xad", "ǀ", "²", "½", "İ",
    "ﬁ", "\ue000", "\U000e0041",
)  # fmt: skip


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    random = Random(seed)

    def mixed() -> tuple[str, bytes]:
        return "mixed", "".join(random.choices(_PIECES, k=random.choice((1, 3, 20, 300)))).encode()

    def repeated() -> tuple[str, bytes]:
        unit = "".join(random.choices(_PIECES, k=random.choice((1, 2, 3))))
        return "repeated", (unit * 400_000)[: random.choice((3000, 5000, 100_000))].encode()

    def noise() -> tuple[str, bytes]:
        return "noise", "".join(chr(random.randrange(1, 0xD800)) for _ in range(2000)).encode()

    def halves() -> tuple[str, bytes]:
        return "halves", random.randbytes(random.choice((1, 100, 5000)))

    return in_turn(random, mixed, mixed, repeated, noise, halves)


@cache
def vocabulary() -> Vocabulary:
    from captionbot.text.tokenizer import tokenize
    from captionbot.text.vocabulary import Vocabulary

    return Vocabulary.build([tokenize("a brown dog runs on the beach and does n't stop")])


def attack(name: str, data: bytes) -> None:
    import torch

    from captionbot.errors import CaptionBotError
    from captionbot.search.constraints import Constraints
    from captionbot.search.options import SearchOptions, checked_text
    from captionbot.text.parts_of_speech import PARTS, parts_of_speech
    from captionbot.text.tokenizer import detokenize, tokenize

    text = data.decode("utf-8", "surrogateescape")  # as a command line has what is not UTF-8
    words = tokenize(text)
    "".join(words).encode()  # no word is one that no file can hold
    assert all(word and not any(map(str.isspace, word)) for word in words), words
    assert tokenize(" ".join(words)) == words or set("&ǀİ") & set(text)
    assert set(parts_of_speech(words)) <= set(PARTS)
    detokenize(words)
    vocabulary().encode(words)
    try:
        ids = vocabulary().require(tokenize(checked_text(text, "The beginning")))
    except CaptionBotError:
        ids = [4 + len(words) % 3] * min(len(words), 30)
    Constraints(
        ids, [0], 2, SearchOptions(), batch=1, vocabulary=len(vocabulary()), device=torch.device("cpu")
    )  # fmt: skip


def ready() -> None:
    import captionbot.search.constraints  # noqa: F401

    vocabulary()
