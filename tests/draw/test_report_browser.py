"""The page that opens offline, in a browser, from a file and without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsers import CHROMIUM
from playwright.sync_api import Browser, expect
from test_report import CAPTIONED, PHOTO, RIVALS, TREE

from captionbot.draw import report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_shows_all_of_it_offline(browser: Browser, tmp_path: Path, width: int) -> None:
    page = report.html("my <photo>.jpg", "model", PHOTO, CAPTIONED, 0, RIVALS, TREE)
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 844}, offline=True)
    shown = context.new_page()
    faults: list[str] = []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.goto((tmp_path / "report.html").as_uri())
    heat, words = shown.locator(".cb-heat"), shown.locator(".cb-word")
    words.nth(1).hover()
    expect(heat).to_have_attribute("data-word", "dog")
    expect(shown.locator(".cb-frame > img")).to_have_attribute("alt", "A dog & cat.")
    words.nth(1).focus()
    shown.keyboard.press("ArrowRight")
    expect(heat).to_have_attribute("data-word", "&")
    shown.keyboard.press("Enter")
    expect(shown.get_by_role("dialog")).to_contain_text("the end")
    assert shown.get_by_role("dialog").get_by_role("button").count() == 1  # nothing can be asked here
    shown.keyboard.press("Escape")
    expect(words.nth(2)).to_be_focused()
    shown.locator(".cb-tree").focus()
    shown.keyboard.press("ArrowRight")
    expect(shown.locator(".cb-beam .cb-note")).to_have_text("a\nThe winner.")
    expect(heat).to_have_css("opacity", "1")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    assert faults == []
