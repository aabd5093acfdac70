"""What sentences repeat of what they were given."""

from __future__ import annotations

import pytest

from captionbot.errors import MOST_REPEATED, displayable, shortened


def test_short_text_is_repeated_as_it_is() -> None:
    assert shortened("two  children, हिन्दी 👨‍👩‍👧.jpg") == "two  children, हिन्दी 👨‍👩‍👧.jpg"


@pytest.mark.parametrize("length", [MOST_REPEATED, MOST_REPEATED + 1, 1_000_000])
def test_long_text_keeps_its_beginning_and_its_end(length: int) -> None:
    text = shortened(f"/photos/{'x' * (length - 16)}/dog.jpg")
    assert len(text) == MOST_REPEATED
    assert text.startswith("/photos/x")
    assert text.endswith("x/dog.jpg")


@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_no_more_than_asked_for(most: int) -> None:
    assert len(shortened("a" * 50, most)) == most


@pytest.mark.parametrize(
    "text", ["\udce9t\udce9.jpg", "a\x00b", "gpj.\u202egif", "one\ntwo\r\nthree\u2028four"]
)
def test_what_cannot_be_shown_is_marked(text: str) -> None:
    shown = displayable(text)
    shown.encode()  # a lone surrogate would raise
    assert shown.isprintable()
    assert shortened(text) == shown


def test_names_that_are_not_utf8() -> None:
    assert displayable("\udce9t\udce9.jpg") == "\ufffdt\ufffd.jpg"


def test_what_has_no_text_is_named_by_its_kind() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shortened(10**10_000) == "a very long int"
    assert shortened(deep) == "a very long list"
    while deep:  # taken apart from outside: freeing it whole would be as deep
        deep = deep[0]  # type: ignore[assignment]
