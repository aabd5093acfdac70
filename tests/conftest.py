"""What tests of several modules need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photos, data and weights that lies beside the project where it is built and tested."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder shared/ beside the project: photos and data under other licences")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from browsers import opened  # here, as most tests need no browser

    with opened() as browser:
        yield browser
