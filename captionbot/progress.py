"""How far a long job is: one line of a terminal, written over and over."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")

CLEAR = "\r\033[K"  # to the start of the line, and away with what stood there
_EVERY = 0.5  # seconds between two lines
_RECENT = 60  # lines that the speed is taken from


def progress(
    items: Iterable[T],
    total: int | None,
    done: int = 0,
    out: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Pass items on and write to a terminal how many there were, how fast they come and what time is left.

    total: how many there will be, None where nobody knows. done: how many an earlier run did.
    out: the terminal, stderr by default. clock: seconds.
    """
    out = out or sys.stderr
    recent = deque([(clock(), done)], maxlen=_RECENT)
    try:
        for item in items:
            yield item
            done += 1
            now = clock()
            if now - recent[-1][0] >= _EVERY:
                recent.append((now, done))
                out.write(CLEAR + line(done, total, (done - recent[0][1]) / (now - recent[0][0])))
                out.flush()
    finally:
        out.write(CLEAR)
        out.flush()


def line(done: int, total: int | None, speed: float) -> str:
    """120 of 1,000 photos, 24.1 a second, 0:37 left."""
    text = f"{done:,}{f' of {total:,}' if total else ''} photos, {speed:.1f} a second"
    if not total or not speed:
        return text
    minutes, seconds = divmod(round(max(0, total - done) / speed), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{text}, {left} left"
