"""What was measured of this CPU, kept in the cache folder, so that not every start measures it again."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from captionbot.errors import CaptionBotError
from captionbot.files import aside, cache_folder, read_json

FILE = "cpu.json"
_MOST = 1000  # names: a file of more starts anew


def remembered(name: str, measure: Callable[[], list[float]]) -> list[float]:
    """The numbers of a name for this CPU, torch and number of threads; measured where they are not kept.

    A folder that cannot be written to, and a file that is not what it was, mean to measure each time.
    """
    key = f"{_cpu()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {name}"
    kept: dict[str, Any] = {}
    with suppress(OSError, ValueError, CaptionBotError):
        found = read_json(cache_folder() / FILE)
        kept = found if isinstance(found, dict) and len(found) < _MOST else {}
    numbers = kept.get(key)
    if isinstance(numbers, list) and numbers and all(isinstance(n, float) for n in numbers):
        return numbers
    numbers = measure()
    with suppress(OSError, CaptionBotError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with aside(folder / FILE) as partial:
            partial.write_text(json.dumps({**kept, key: numbers}, indent=1) + "\n", encoding="utf-8")
    return numbers


def _cpu() -> str:
    """Its model, as far as the system tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()
