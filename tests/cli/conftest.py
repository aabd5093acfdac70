"""The command line, run as a person runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from captionbot.cli.main import main


class Run(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Run]:
    """Runs it over the captioners of the folder `weights`, a fixture of each module."""
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(weights))

    def run(*args: object) -> Run:
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:  # argparse's way out
            code = stop.code
        return Run(code, *capsys.readouterr())

    return run
