"""A real browser, and the pages' real servers on the weights that ship."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
ARTEFACTS = ROOT / "artefacts"  # what the pages looked like; git ignores it, Playwright makes it
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 120_000  # milliseconds: another program may have all the cores


@contextmanager
def served(folder: Path, command: Sequence[str], health: str = "/") -> Iterator[str]:
    """The address of a page's server, a process of its own; {port} in its command is a free one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
    }
    log = folder / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [part.format(port=port) for part in command], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
        try:
            wait_for(f"{address}{health}", server, log)
            yield address
        finally:
            server.terminate()
            server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"the page's server did not start:\n{log.read_text(errors='replace')}")


@contextmanager
def opened() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def on_a_laptop(browser: Browser, address: str, path: str = "") -> Iterator[Page]:
    """A page of the server on a laptop's screen. It must ask no other machine for anything, nor throw."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
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
