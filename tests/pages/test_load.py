"""Twenty clients at once for three minutes: no errors, and memory stays flat."""

from __future__ import annotations

import pytest

from benchmarks import load
from benchmarks.pages import PAGES
from captionbot.pages.samples import sample_photos


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_many_clients_at_once(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not sample_photos():
        pytest.skip("needs the samples")
    code = load.main(["--pages", page, "--clients", "20", "--seconds", "180"])
    assert code == 0, capsys.readouterr().out
