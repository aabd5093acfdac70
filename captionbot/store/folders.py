"""Where weights lie: those that ship, and those that were downloaded or imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.files import read_json

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "_weights"  # of a wheel, which has the default captioner alone: see hatch_build.py
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "weights"


def weights_folder() -> Path:
    """The folder of the weights that ship, of a checkout or a wheel; CAPTIONBOT_WEIGHTS names another."""
    return Path(os.environ.get("CAPTIONBOT_WEIGHTS") or SHIPPED)


def read_listing(path: Path) -> Any:
    """What the JSON of a card or table says; CaptionBotError where it cannot be read."""
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise CaptionBotError(
            f"{shortened(path)} cannot be read ({shortened(error)}): put a good copy of it there."
        ) from error
