"""Walks through a page in a browser that are the same on both pages."""

from __future__ import annotations

import re
from pathlib import Path

from browsers import ARTEFACTS
from playwright.sync_api import Locator, Page, expect


def words(page: Page) -> Locator:
    return page.locator(".cb-word")


def said(page: Page) -> str:
    return " ".join(words(page).all_inner_texts())


def photo(page: Page) -> Locator:
    return page.locator(".cb-frame > img")


def upload(page: Page, path: Path) -> None:
    page.locator(".cb-sources input[type=file]").set_input_files(path)


def upload_one(page: Page, path: Path) -> None:
    """Another photo, with a caption that is announced and is the photo's text."""
    before = str(photo(page).get_attribute("src"))
    upload(page, path)
    expect(photo(page)).not_to_have_attribute("src", before)
    expect(page.locator(".cb-busy")).to_have_count(0)
    caption = re.compile(re.escape(f"{said(page)}."), re.IGNORECASE)  # "Perhaps" may stand before it
    expect(photo(page)).to_have_attribute("alt", caption)
    expect(page.locator(".cb-hear")).to_contain_text(caption)


def point_at_words(page: Page) -> float:
    """The milliseconds from pointing at a word to its map on the photo, in the browser alone."""
    words(page).nth(1).hover()
    heat = page.locator(".cb-heat")
    expect(heat).to_have_attribute("data-word", words(page).nth(1).inner_text())
    expect(heat).to_have_css("opacity", "1")
    waited: float = page.evaluate(
        """() => {
            const [, , third] = document.querySelectorAll(".cb-word");
            const heat = document.querySelector(".cb-heat"), began = performance.now();
            third.dispatchEvent(new PointerEvent("pointerenter", { pointerType: "mouse" }));
            heat.getContext("2d").getImageData(0, 0, 1, 1); // once it is drawn
            return heat.dataset.word === third.textContent ? performance.now() - began : -1;
        }"""
    )
    assert waited >= 0  # all maps are here: its own is drawn before the next frame
    return waited


def say_something_else(page: Page) -> None:
    words(page).nth(1).click()
    rival = page.locator(".cb-rival").first
    chosen = rival.inner_text()
    rival.click()
    expect(page.locator(".cb-edits")).to_be_visible()
    expect(words(page).nth(1)).to_have_text(chosen)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".cb-edits")).to_be_hidden()
    count = words(page).count()
    page.get_by_role("button", name="Longer").click()
    expect(words(page).nth(count)).to_be_visible()
    expect(page.get_by_role("button", name="Longer")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Longer").click()
    expect(words(page)).to_have_count(count)


def hide_by_the_keyboard(page: Page) -> None:
    page.get_by_role("button", name="Hide a rectangle").click()
    for key in ("ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".cb-edits")).to_contain_text("Part of the photo is hidden")
    page.get_by_role("button", name="Whole photo again").click()
    expect(page.locator(".cb-edits")).to_be_hidden()


def stand_on_a_phone(page: Page, name: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    expect(words(page).first).to_be_visible()
    expect(photo(page)).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.screenshot(path=ARTEFACTS / f"{name}-phone.png")
