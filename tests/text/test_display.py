"""Captions and numbers for a reader."""

from __future__ import annotations

import pytest

from captionbot.text.display import percent, plain, sentence


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a dog runs", "A dog runs."),
        ("A dog.", "A dog."),
        (" is it a dog? ", "Is it a dog?"),
        ("éclairs", "Éclairs."),
        ("", "."),
    ],
)
def test_sentence(text: str, written: str) -> None:
    assert sentence(text) == written


@pytest.mark.parametrize(
    ("probability", "written"), [(0.426, "43%"), (1, "100%"), (0.01, "1%"), (0.0099, "<1%"), (0, "<1%")]
)
def test_percent(probability: float, written: str) -> None:
    assert percent(probability) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [("a dog", "a dog"), ("*a* $x$", r"\*a\* \$x\$"), ("<b>:cat:", r"\<b\>\:cat\:"), (r"\_", r"\\\_")],
)
def test_plain(text: str, written: str) -> None:
    assert plain(text) == written
