"""Who works when, on a page of many visitors: one captions at a time, in the order in which they came.

The captioner uses every core as it is, so that two at once would be no faster, and each holds a photo at
its own size. Long jobs hand on their turn between photos.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, get_ident


class Turns:
    """A lock that is handed on in the order in which it was asked for.

    Python's own goes to whoever is quickest, which is mostly the thread that just let go of it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._holder: int | None = None
        self._waiting: deque[tuple[int, Lock]] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for one's turn, and has it for the block; within one's own turn it is there already."""
        if self._holder == get_ident():
            yield
            return
        self._take()
        try:
            yield
        finally:
            self._hand_on()

    def _take(self) -> None:
        me, gate = get_ident(), Lock()
        with self._lock:
            if self._holder is None:
                self._holder = me
                return
            gate.acquire()
            self._waiting.append((me, gate))
        gate.acquire()  # until `_hand_on` opens it

    def _hand_on(self) -> None:
        with self._lock:
            self._holder, gate = self._waiting.popleft() if self._waiting else (None, None)
        if gate is not None:
            gate.release()


_captioner = Turns()
turn = _captioner.turn  # at the captioner; a photo is read within it, so that one of its own size is held
