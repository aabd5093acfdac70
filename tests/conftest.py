"""What tests of several modules need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


LONGEST = (
    "test_gradio_browser.py",
    "test_streamlit_browser.py",
    "test_training.py",
    "test_gradio_door.py",
    "test_streamlit_app.py",
    "test_gradio_app.py",
    "test_cli.py",
    "test_fuzz.py",
    "test_wheel.py",
    "test_importers.py",
    "test_batch.py",
)
"""Modules of tests, from the one that takes longest."""


@pytest.fixture(scope="session", autouse=True)
def no_captioners_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pages list what was imported on a machine: here nothing is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONBOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("CAPTIONBOT_MODEL", raising=False)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that take longest come first: begun late, one would keep one process busy while others idle."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


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
