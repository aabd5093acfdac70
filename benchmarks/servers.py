"""The pages' real servers, for benchmarks, pictures and tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from captionbot import CaptionBotError
from captionbot.host import HUB

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 300  # seconds: another program may have all the cores


@contextmanager
def served(page: str, protected: bool = False, log: Path | None = None) -> Iterator[tuple[str, int]]:
    """The address of a page's server, and the process that it is.

    protected: against forged requests, as Streamlit is for visitors; then only browsers can upload.
    log: a file for what it says, if that is to be read.
    Raises CaptionBotError where it does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = {
        "streamlit": ["-m", "captionbot", "app", f"--port={port}"],
        "gradio": [str(ROOT / "gradio_app.py")],
    }[page]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        log = log or Path(folder, "log")
        file = stack.enter_context(log.open("wb"))
        environment = os.environ | {
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_TEMP_DIR": folder,
            "STREAMLIT_LOGGER_MESSAGE_FORMAT": "%(levelname)s %(message)s",
            "STREAMLIT_SERVER_HEADLESS": "true",
            "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION": str(protected).lower(),
            HUB: os.environ.get(HUB, ""),  # visitors have no captioner fetched unless that is asked for
        }
        # In a container the packages lie outside the folder that the page is started in.
        started_in = {"streamlit": str(ROOT), "gradio": folder}[page]
        server = subprocess.Popen(
            [sys.executable, *command], cwd=started_in, env=environment, stdout=file, stderr=file
        )
        try:
            if not _answers(f"http://127.0.0.1:{port}/", server):
                raise CaptionBotError(f"{page} did not start: {log.read_text()[-2000:]}")
            yield f"127.0.0.1:{port}", server.pid
        finally:
            server.terminate()
            server.wait(30)


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return True
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    return False
