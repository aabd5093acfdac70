"""Captions as alt text."""

from __future__ import annotations

import pytest

from captionbot.text.alt_text import LIMIT, STYLES, alt_text


@pytest.mark.parametrize(
    ("caption", "alt"),
    [
        ("a dog runs", "A dog runs."),
        ("a picture of a dog", "A dog."),
        ("this is a black and white photo of two men", "Two men."),
        ("a close up of a photo of a cat", "A cat."),
        ("The image shows a man who holds a ball.", "A man who holds a ball."),
        ("In this photo, we can see a horse", "A horse."),
        ("a man takes a picture of a bird", "A man takes a picture of a bird."),
        ("a picture hangs on a wall", "A picture hangs on a wall."),
        ("a photo", "A photo."),
        ("", ""),
    ],
)
def test_nothing_says_that_a_picture_is_a_picture(caption: str, alt: str) -> None:
    assert alt_text(caption) == alt


@pytest.mark.parametrize(
    ("caption", "alt"),
    [
        ("one two three. four five six", "One two three."),
        ("one two three, four five six seven", "One two three."),
        ("one two three four of the nineteen", "One two three four."),
        ("x" * 60, "X" * 1 + "x" * 22 + "."),
    ],
)
def test_a_long_caption_ends_where_it_makes_sense(caption: str, alt: str) -> None:
    assert alt_text(caption, 24) == alt
    assert len(alt) <= 24


def test_no_caption_is_longer_than_allowed() -> None:
    for unit in ("a dog and ", "a dog, ", "dog. ", "dog"):
        assert len(alt_text(unit * 50)) <= LIMIT


def test_every_style_has_search_options() -> None:
    from captionbot.search.options import SearchOptions

    assert [SearchOptions(**options).min_length for options in STYLES.values()] == [1, 1, 12]
