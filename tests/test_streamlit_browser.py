"""The Streamlit page as a person meets it: a real server, a real browser, a real photo."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_streamlit_app import build_observant_captioner

ROOT = Path(__file__).parents[1]
ARTEFACTS = ROOT / "artefacts"  # what the page looked like; git ignores it, Playwright makes it
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 120_000  # milliseconds: another program may have all the cores

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    build_observant_captioner(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.headless=true"]
    command += [f"--server.port={port}", "--server.address=127.0.0.1"]
    environment = os.environ | {"CAPTIONBOT_WEIGHTS": str(folder)}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            wait_for(f"{address}/_stcore/health", server, folder / "log")
            yield address
        finally:
            server.terminate()
            server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"the page's server did not start:\n{log.read_text(errors='replace')}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page with its sample, on a laptop's screen. It must not ask other machines for anything."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page = context.new_page()
    strangers: list[str] = []
    own = (address, "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(own) or strangers.append(request.url))
    page.goto(address)
    expect(page.get_by_role("img").first).to_be_visible()
    expect(page.locator("[data-testid=stSpinner]")).to_have_count(0)
    yield page
    context.close()
    assert strangers == []


def test_upload_a_photo_and_click_a_word(page: Page, shared: Path) -> None:
    sample = page.get_by_role("img").first.get_attribute("src")
    photo = sorted((shared / "data" / "photos").glob("*.jpg"))[3]
    page.locator("input[type=file]").set_input_files(photo)
    hero = page.get_by_role("img").first
    expect(hero).not_to_have_attribute("src", str(sample))

    headline = page.get_by_role("heading", level=2).inner_text()
    expect(hero).to_have_attribute("alt", headline)
    words = page.get_by_role("radiogroup", name="Click a word").get_by_role("radio")
    assert words.count() == len(headline.split())
    shown = str(hero.get_attribute("src"))
    words.last.click()
    expect(hero).not_to_have_attribute("src", shown)
    word = headline.strip(".").split()[-1]
    expect(page.get_by_text(f"“{word}” had a probability of")).to_be_visible()
    page.wait_for_function("document.querySelector('[data-testid=stImage] img').naturalWidth > 200")

    page.screenshot(path=ARTEFACTS / "streamlit.png")


@pytest.mark.parametrize(
    ("label", "ending", "magic"),
    [
        ("The page that opens offline (HTML)", ".html", b"<!doctype html>"),
        ("Every word (PNG)", ".png", b"\x89PNG"),
        ("Word by word (GIF)", ".gif", b"GIF8"),
        ("Captions and attention (JSON)", ".json", b'{"image"'),
    ],
)
def test_downloads(page: Page, label: str, ending: str, magic: bytes) -> None:
    page.get_by_role("tab", name="Share").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=label).click()
    assert download.value.suggested_filename.endswith(ending)
    assert Path(download.value.path()).read_bytes().startswith(magic)


def test_words_are_stepped_through_with_the_arrow_keys(page: Page) -> None:
    words = page.get_by_role("radiogroup", name="Click a word").get_by_role("radio")
    for key, chosen in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        expect(words.nth(chosen)).to_be_checked()


def test_the_report_opens_offline(page: Page, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Share").click()
    expect(page.get_by_text("?view=Share")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="opens offline").click()
    download.value.save_as(tmp_path / "report.html")
    report = page.context.new_page()
    report.context.set_offline(True)
    report.goto((tmp_path / "report.html").as_uri())
    photo, words = report.locator("#photo"), report.locator(".words button")
    whole = photo.get_attribute("src")
    words.first.click()
    assert photo.get_attribute("src") == words.first.get_attribute("data-map") != whole
    report.keyboard.press("ArrowRight")
    assert photo.get_attribute("src") == words.nth(1).get_attribute("data-map")
    expect(report.locator(".rivals:visible")).to_have_count(1)
    report.screenshot(path=ARTEFACTS / "report.png")
    report.keyboard.press("Escape")
    assert photo.get_attribute("src") == whole
    report.context.set_offline(False)


def test_a_click_in_the_tree_says_what_became_of_a_word(page: Page) -> None:
    page.get_by_role("tab", name="Beam").click()
    end = page.locator(".beam-tree g.won").last
    expect(end).to_be_visible()
    end.click()
    expect(page.locator(".note")).to_contain_text("The winner: a score of")
    page.screenshot(path=ARTEFACTS / "streamlit-beam.png")


def test_drag_a_rectangle_over_the_photo(page: Page) -> None:
    page.get_by_role("tab", name="Ask the picture").click()
    expect(page.get_by_text("16% of the photo is hidden.")).to_be_visible()
    frame = page.locator(".frame")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=3)
    page.mouse.up()
    expect(page.get_by_text("30% of the photo is hidden.")).to_be_visible()
    page.screenshot(path=ARTEFACTS / "streamlit-ask.png")


def test_a_text_file_is_answered_with_a_sentence(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("Dear diary")
    page.locator("input[type=file]").set_input_files(tmp_path / "notes.jpg")
    expect(page.get_by_role("alert").filter(has_text="notes.jpg")).to_be_visible()
    expect(page.get_by_text("Traceback")).to_have_count(0)


def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    hero = page.get_by_role("img").first
    expect(hero).to_be_visible()
    box = hero.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.screenshot(path=ARTEFACTS / "streamlit-phone.png")
