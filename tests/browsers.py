"""A real browser, for the pages' real servers on the weights that ship.

A test module that imports this one is skipped, with the reason, where playwright or the photos are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright")

# isort: split
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.servers import CHROMIUM, ROOT
from captionbot.pages.samples import sample_photos

if not sample_photos():
    pytest.skip("needs the samples", allow_module_level=True)

ARTEFACTS = ROOT / "artefacts"  # what the pages looked like; git ignores it, Playwright makes it
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 120_000  # milliseconds: another program may have all the cores
TOURED = "try { localStorage.setItem('captionbot.toured', 'yes') } catch {}"  # what a browser remembers


@contextmanager
def opened() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def on_a_laptop(
    browser: Browser, address: str, path: str = "", toured: bool = True, **context_options: Any
) -> Iterator[Page]:
    """A page of the server on a laptop's screen. It must ask no other machine for anything, nor throw.

    toured: whether it is no first visit.
    """
    context = browser.new_context(
        viewport={"width": 1400, "height": 900}, accept_downloads=True, **context_options
    )
    if toured:
        context.add_init_script(TOURED)
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page = context.new_page()
    strangers: list[str] = []
    faults: list[str] = []
    own = (address, "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(own) or strangers.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{address}/{path}")
    yield page
    context.close()
    assert strangers == []
    assert faults == []
