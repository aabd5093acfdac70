"""The real Streamlit server, spoken to without a browser: it loads the captioner before anyone visits it, and
what it keeps of uploads has a limit."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from tiny import build_tiny_captioner

from benchmarks.pages import StreamlitVisitor
from benchmarks.servers import served
from captionbot.pages.limits import MAX_SESSION_MEGABYTES


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    weights = tmp_path_factory.mktemp("weights")
    build_tiny_captioner(weights)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CAPTIONBOT_WEIGHTS", str(weights))
        with served("streamlit") as address_and_pid:
            yield address_and_pid


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="this system does not tell what is loaded")
def test_torch_is_there_before_anyone_visits(server: tuple[str, int]) -> None:
    deadline = time.monotonic() + 300
    while "libtorch_cpu" not in Path(f"/proc/{server[1]}/maps").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_one_visit_keeps_so_much_and_no_more(server: tuple[str, int]) -> None:
    address, _ = server
    visitor = StreamlitVisitor(address)
    sent, answers = 100_000_000, []
    for _ in range(MAX_SESSION_MEGABYTES // 100 + 1):
        url = f"http://{address}/_stcore/upload_file/{visitor.session}/{uuid.uuid4()}"
        answers.append(requests.put(url, files={"file": ("many.zip", b"0" * sent)}, timeout=120))
    assert [answer.status_code for answer in answers] == [204, 204, 413]
    assert "remove some files" in answers[-1].text
    large = requests.put(url, files={"file": ("large", b"0" * 212_000_000)}, timeout=120)
    assert large.status_code == 413
