"""What the readers of all formats share: text and JSON from disk, and splits by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError

VAL_SHARE = 0.1

_SPLITS = {
    "train": ("train", "training", "restval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without the byte order mark that Windows programs put in front."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaptionBotError(f"{path} is not text in UTF-8 ({error.reason}); convert it first.") from error
    except OSError as error:
        raise CaptionBotError(
            f"{path} cannot be read ({error.strerror}): give the path of a file."
        ) from error


def read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise CaptionBotError(f"{path} is not JSON ({error}): download or write it again.") from error


def split_name(text: str) -> str:
    """ "train", "val" or "test" for a split under any of its usual names.

    Karpathy's `restval`, the images of COCO's val2014 outside his val and test, is trained on, as is
    usual since arXiv 1412.2306.
    """
    for split, names in _SPLITS.items():
        if text.strip().lower() in names:
            return split
    allowed = ", ".join(name for names in _SPLITS.values() for name in names)
    raise CaptionBotError(f"'{text}' is not a split; the splits are {allowed}.")


def split_by_name(names: Iterable[str]) -> dict[str, str]:
    """Names to "train" or, about a tenth of them, "val", for data sets that come without splits.

    The SHA-256 of the name decides, so all machines agree, and a photo stays where it is as others are
    added. Of two or more names at least one is in each split.
    """
    order = sorted(set(names), key=_share)
    val = {name for name in order if _share(name) < VAL_SHARE} | set(order[:1])
    return {name: "val" if name in val - set(order[-1:]) else "train" for name in order}


def _share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
