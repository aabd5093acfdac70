"""What tests of explanations share."""

from __future__ import annotations

import pytest
from cells import BLOCK, photo_with
from PIL import Image
from tiny import build_tiny_captioner

from captionbot import Captioner


@pytest.fixture(scope="session")
def bright() -> Image.Image:
    """A photo whose cells BLOCK are white."""
    return photo_with(BLOCK)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    build_tiny_captioner(folder := tmp_path_factory.mktemp("tiny"))
    return Captioner.from_pretrained(folder, device="cpu")
