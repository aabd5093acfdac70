"""Files that are whole or not there, and JSON that a stranger may have written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_JSON = 16_000_000  # bytes; as Python's objects they may take fifty times as many


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Where to write a file that then takes the place of `path`; if that goes wrong, nothing of it stays."""
    partial = path.with_name(f".{path.name}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file holds; OSError or ValueError, in a few words, where that cannot be read."""
    with path.open("rb") as file:
        return parse_json(file.read(MOST_JSON + 1))


def parse_json(data: bytes) -> Any:
    """What the bytes of a JSON file hold; ValueError, in a few words, where they are none."""
    if len(data) > MOST_JSON:
        raise ValueError(f"it has more than {MOST_JSON // 1_000_000} MB")
    try:
        values = json.loads(data.decode("utf-8-sig"))
        if b"\\u" in data:  # two escapes are one character, and one of them alone none: it cannot be written
            json.dumps(values, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeError:
        raise ValueError("it is no text in UTF-8") from None
    return values
