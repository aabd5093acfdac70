"""Hostile files against everything that reads one: `python -m fuzz --inputs 20000`, with tests/ on the path.

A target is a module here with these functions:

    inputs(seed) -> Iterator[tuple[str, bytes]]    file names and contents, endless, the same for a seed
    attack(name, data) -> None                     reads one; may return, or raise CaptionBotError
    ready() -> None                                if it is there: loads libraries before the time counts

Each input is read in a child process, which may take 5 s of a processor, 2 GB of memory, and say nothing but
one short sentence: no crash, no other exception, no traceback. Linux alone, as it watches /proc.
"""

from __future__ import annotations

from pathlib import Path

TARGETS = tuple(
    sorted(
        path.stem
        for path in Path(__file__).parent.glob("[a-z]*.py")
        if "\ndef attack(" in path.read_text(encoding="utf-8")
    )
)
