"""The page that opens offline: read back as HTML, and opened in a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_drawings import caption_of

from captionbot.draw import canvas, report
from captionbot.types import Captioned, Search, Word

PHOTO = Image.new("RGB", (400, 300), (90, 120, 150))
CAPTION = caption_of(PHOTO, "a dog & cat")
SEARCH = Search(((),), *[np.zeros(0)] * 6, np.ones((2, 1, 3, 4)))
CAPTIONED = Captioned((CAPTION, caption_of(PHOTO, "a <b> runs")), SEARCH)
RIVALS = [[Word("the", -1.0), Word("the end", -9.0)]] * 5
TREE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="40"><g data-step="0" data-map="0-0">'
    '<title>a\nThe winner.</title><rect x="1" y="1" width="40" height="22"/><text>a</text></g></svg>'
)


class Elements(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return report.html("my <photo>.jpg", "model", PHOTO, CAPTIONED, 0, RIVALS, TREE)


def parts_of(page: str) -> dict[str, dict[str, Any]]:
    [text] = re.findall(r'<script type="application/json" id="parts">(.*?)</script>', page)
    return {part["part"]: part for part in json.loads(text)}


def test_every_word_carries_its_own_map_and_what_else_was_weighed(page: str) -> None:
    words = parts_of(page)["sentence"]["words"]
    assert [word["text"] for word in words] == ["a", "dog", "&", "cat"]
    assert [np.argmax(word["looked"]) for word in words] == [0, 1, 2, 3]  # caption_of looks at cell t
    assert words[0]["rivals"] == [["the", 0.3679], ["the end", 0.0001]]
    assert words[0]["says"] == "Where the model looked for “a”. Its probability was 90%."


def test_a_page_gives_it_what_words_need_too() -> None:
    own = canvas.words(CAPTION, ["looked"] * 4, needs=CAPTION, need_sentences=["needs"] * 4, marks="●◐◇○")
    page = report.html("p.jpg", "model", PHOTO, CAPTIONED, words=own | {"says": {}, "band": {"kind": "sure"}})
    sentence = parts_of(page)["sentence"]
    assert [word["mark"] for word in sentence["words"]] == list("●◐◇○")
    assert {word["says_needs"] for word in sentence["words"]} == {"needs"}
    assert sentence["says"]["hint"] == report.HINT
    assert sentence["band"] is None  # the page says it once


def test_what_it_says(page: str) -> None:
    text = Elements(page).text
    for part in ("A dog & cat.", "A <b> runs.", "my <photo>.jpg", "Likelihood 50%", "the end"):
        assert part in text
    assert parts_of(page)["photo"]["photo"]["alt"] == "A dog & cat."
    assert parts_of(page)["beam"]["svg"] == TREE


def test_it_asks_nobody_for_anything(page: str) -> None:
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page) == []
    assert not Elements(page).named("link")
    assert not any("src" in script for script in Elements(page).named("script"))


def test_without_rivals_and_tree() -> None:
    parts = parts_of(report.html("p.jpg", "model", PHOTO, CAPTIONED, 1))
    assert len(parts["sentence"]["words"]) == 3
    assert not any(word["rivals"] for word in parts["sentence"]["words"])
    assert "beam" not in parts


def test_it_stays_small_enough_to_send(page: str) -> None:
    assert len(page) < 1_000_000
