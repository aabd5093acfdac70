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
        ("Every word (PNG)", ".png", b"\x89PNG"),
        ("Word by word (GIF)", ".gif", b"GIF8"),
        ("Captions and attention (JSON)", ".json", b'{"image"'),
    ],
)
def test_downloads(page: Page, label: str, ending: str, magic: bytes) -> None:
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=label).click()
    assert download.value.suggested_filename.endswith(ending)
    assert Path(download.value.path()).read_bytes().startswith(magic)


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
