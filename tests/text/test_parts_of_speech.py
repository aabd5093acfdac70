"""Parts of speech of captions, by lists and rules."""

from __future__ import annotations

import pytest

from captionbot.text.parts_of_speech import PARTS, parts_of_speech
from captionbot.text.tokenizer import tokenize

SHORT = {part[0]: part for part in PARTS}


@pytest.mark.parametrize(
    ("caption", "parts"),
    [
        ("a brown dog is running through the grass", "d a n o v p d n"),
        ("two dogs run on the beach", "o n v p d n"),
        ("a man jumps on a run", "d n v p d n"),
        ("children play with a red swing", "n v p d a n"),
        ("a child on swings", "d n p n"),
        ("a girl watches her", "d n v o"),
        ("a girl watches her dog", "d n v d n"),
        ("a dog that carries a stick", "d n o v d n"),
        ("a woman in a striped shirt is dressed in pink", "d n p d a n o v p a"),
        ("people standing in front of a building", "n v p n p d n"),
        ("a dog runs to catch a ball", "d n v o v d n"),
        ("a dog runs to the ball", "d n v p d n"),
        ("a bird happily flies over water", "d n o v p n"),
    ],
)
def test_captions(caption: str, parts: str) -> None:
    assert parts_of_speech(tokenize(caption)) == tuple(SHORT[part] for part in parts.split())


def test_no_word_is_without_a_part_of_speech() -> None:
    assert parts_of_speech([]) == ()
    assert set(parts_of_speech(["", "s", "ing", "ed", "2", "'s", "zyx"])) <= set(PARTS)
