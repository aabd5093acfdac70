"""What the Streamlit server keeps of uploads has a limit: its real server, spoken to without a browser."""

from __future__ import annotations

import uuid

import pytest
import requests
from tiny import build_tiny_captioner

from benchmarks.pages import StreamlitVisitor
from benchmarks.servers import served
from captionbot.pages.limits import MAX_SESSION_MEGABYTES


def test_one_visit_keeps_so_much_and_no_more(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path_factory.mktemp("weights")
    build_tiny_captioner(weights)
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(weights))
    with served("streamlit") as (address, _):
        visitor = StreamlitVisitor(address)
        sent, answers = 100_000_000, []
        for _ in range(MAX_SESSION_MEGABYTES // 100 + 1):
            url = f"http://{address}/_stcore/upload_file/{visitor.session}/{uuid.uuid4()}"
            answers.append(requests.put(url, files={"file": ("many.zip", b"0" * sent)}, timeout=120))
        assert [answer.status_code for answer in answers] == [204, 204, 413]
        assert "remove some files" in answers[-1].text
        large = requests.put(url, files={"file": ("large", b"0" * 212_000_000)}, timeout=120)
        assert large.status_code == 413
