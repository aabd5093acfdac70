"""The page that opens offline: read back as HTML, and opened in a browser in test_streamlit_browser.py."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from test_drawings import caption_of

from captionbot.draw import report
from captionbot.types import Captioned, Search, Word

PHOTO = Image.new("RGB", (400, 300), (90, 120, 150))
CAPTION = caption_of(PHOTO, "a dog & cat")
CAPTIONED = Captioned((CAPTION, caption_of(PHOTO, "a <b> runs")), Search(((),), *[np.zeros(0)] * 7))
RIVALS = [[Word("the", -1.0), Word("the end", -9.0)]] * 5
TREE = '<svg xmlns="http://www.w3.org/2000/svg"><text>here</text></svg>'


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


def decoded(url: str) -> Image.Image:
    assert url.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_every_word_carries_its_own_heatmap(page: str) -> None:
    buttons = Elements(page).named("button")
    assert len(buttons) == 4
    maps = [np.asarray(decoded(button["data-map"])).astype(int) for button in buttons]
    photo = np.asarray(decoded(Elements(page).named("img")[0]["src"])).astype(int)
    for t, drawn in enumerate(maps):
        change = np.abs(drawn - photo).sum(2)
        halves = [change[:150, :200], change[:150, 200:], change[150:, :200], change[150:, 200:]]
        assert np.argmax([half.mean() for half in halves]) == t  # caption_of looks at cell t


def test_what_it_says(page: str) -> None:
    text = Elements(page).text
    for part in ("A dog & cat.", "A <b> runs.", "my <photo>.jpg", "Likelihood 50%", "the end", "<1%", "here"):
        assert part in text
    assert Elements(page).named("img")[0]["alt"] == "A dog & cat."


def test_it_asks_nobody_for_anything(page: str) -> None:
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page) == []
    assert not Elements(page).named("link")
    assert not any("src" in script for script in Elements(page).named("script"))


def test_without_rivals_and_tree() -> None:
    page = Elements(report.html("p.jpg", "model", PHOTO, CAPTIONED, 1))
    assert len(page.named("button")) == 3
    assert not page.named("svg")


def test_it_stays_small_enough_to_send(page: str) -> None:
    assert len(page) < 1_000_000
