"""Walks through a page in a browser that are the same on both pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from browsers import ARTEFACTS, on_a_laptop
from playwright.sync_api import Browser, Locator, Page, expect

SERIOUS = ("serious", "critical")  # of axe's four impacts


def find_no_complaint(log: Path) -> None:
    """A page's server has warned of nothing, and nothing went wrong in it."""
    said = log.read_text(errors="replace")
    assert not re.search(r"Traceback|\b(WARNING|ERROR|CRITICAL)\b|\w+Warning:", said), said[-5000:]


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


def watch_progress(page: Page) -> None:
    """From now on the page remembers what its progress bars have said, however short."""
    page.evaluate(
        """() => {
            window.progressed = new Set();
            const name = bar => bar.getAttribute("aria-label")
                || document.getElementById(bar.getAttribute("aria-labelledby"))?.textContent || "";
            const look = () => document.querySelectorAll("progress, [role=progressbar]").forEach(
                bar => window.progressed.add(name(bar).trim()));
            const all = { subtree: true, childList: true, attributes: true };
            new MutationObserver(look).observe(document.body, all);
        }"""
    )


def progressed(page: Page) -> list[str]:
    """What the page's progress bars have said since `watch_progress`."""
    said: list[str] = page.evaluate("[...window.progressed]")
    return said


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


def stand_on_a_phone(page: Page, name: str, open_beam: Callable[[], None] = lambda: None) -> None:
    """All is within the width, and the photo stays in sight beside the beam search, which is further down.

    open_beam: shows it, where a page forgets that as it is loaded again.
    """
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    expect(words(page).first).to_be_visible()
    expect(photo(page)).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.screenshot(path=ARTEFACTS / f"{name}-phone.png")
    open_beam()
    tree, note = page.locator(".cb-tree"), page.locator(".cb-beam .cb-note")
    expect(tree).to_be_visible()
    page.mouse.move(0, 0)  # or a word of the tree comes under it, and what is said of that moves the tree
    tree.evaluate("tree => tree.scrollIntoView({ block: 'end' })")
    expect(photo(page)).to_be_in_viewport(ratio=0.95)  # its edges are round
    expect(tree).to_be_in_viewport(ratio=0.95)
    stage, told = page.locator(".cb-stage").bounding_box(), note.bounding_box()
    assert stage is not None
    assert told is not None
    assert stage["y"] + stage["height"] <= told["y"]  # the photo covers none of it
    page.screenshot(path=ARTEFACTS / f"{name}-phone-beam.png")


def find_the_photo_by_tab(page: Page) -> None:
    """The first stop of the keyboard leads to the photo."""
    expect(photo(page)).to_be_visible()  # which has made the way to it
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the photo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".cb-frame")).to_be_focused()


def meet_no_barrier(page: Page, where: str, dark: bool = False, within: str = "html") -> None:
    """axe finds nothing serious, nor a picture without a text; dark: nor too little contrast in the dark.

    within: the part of the page that is new.
    """
    runs: list[tuple[Literal["light", "dark"], dict[str, Any]]] = [("light", {})]
    if dark:
        runs.append(("dark", {"runOnly": ["color-contrast"]}))
    for scheme, options in runs:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.wait_for_timeout(300)  # colours change smoothly
        _find_nothing_serious(page, f"{where}, {scheme}", within, options)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")


def _find_nothing_serious(page: Page, where: str, within: str, options: dict[str, Any]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = [
        (where, one["id"], node["target"], node["html"][:200])
        for one in axe.Axe()
        .run(page, within, {"resultTypes": ["violations"], **options})
        .response["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
    assert not found, found


def be_shown_around(browser: Browser, address: str) -> None:
    """The tour comes once, stands in nobody's way, and comes again where it is asked for."""
    with on_a_laptop(browser, address, toured=False, reduced_motion="reduce") as page:
        tour = page.get_by_role("region", name="A tour of the page")
        expect(tour).to_contain_text("1 / 5")
        expect(tour).to_have_css("animation-name", "none")
        expect(page.locator(".cb-frame.cb-toured")).to_have_count(1)
        expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(
            0
        )  # nothing plays by itself
        find_the_photo_by_tab(page)  # the card has not taken the keyboard
        hint = page.locator(".cb-sentence .cb-note")
        before = hint.inner_text()
        words(page).nth(1).hover()  # the page can be used meanwhile
        expect(hint).not_to_have_text(before)
        tour.get_by_role("button", name="Next").press("Enter")
        expect(tour).to_contain_text("2 / 5")
        expect(page.locator(".cb-words.cb-toured")).to_have_count(1)
        for step in (3, 4, 5):
            page.keyboard.press("Enter")  # the keyboard is on Next
            expect(tour).to_contain_text(f"{step} / 5")
        expect(page.locator("[role=tablist].cb-toured")).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(tour).to_have_count(0)
        expect(page.locator(".cb-toured")).to_have_count(0)
        expect(page.locator(".cb-frame")).to_be_focused()
        page.reload()
        expect(words(page).first).to_be_visible()
        expect(tour).to_have_count(0)  # a second visit has none
        page.get_by_role("button", name="Tour", exact=True).click()
        expect(tour.get_by_role("button", name="Next")).to_be_focused()
        page.keyboard.press("Escape")
        expect(tour).to_have_count(0)
