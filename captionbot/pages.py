"""What both pages need, and neither toolkit has."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from captionbot.weights import find_card

if TYPE_CHECKING:  # torch takes seconds to import: the pages are there before that
    from captionbot.captioner import Captioner

_held: dict[Path, Captioner] = {}
_lock = Lock()


def resident(name: str | None = None) -> Captioner:
    """The one captioner that a page keeps in memory, of a name as `find_card` takes it; None: the default.

    All sessions of the page share it. The one before is let go before another is loaded, so that a page
    needs the memory of one; a call that is still at work keeps the old one until it is done.
    """
    card = find_card(name)
    with _lock:
        if card not in _held:
            from captionbot.captioner import Captioner

            _held.clear()
            gc.collect()  # modules can hold each other
            _held[card] = Captioner.from_pretrained(card)
        return _held[card]


def shared_words(sentences: Sequence[Sequence[str]]) -> list[str]:
    """The words of several sentences, those that most of them have first, and of these the longest."""
    words = dict.fromkeys(word for words in sentences for word in words)
    return sorted(words, key=lambda word: (-sum(word in words for words in sentences), -len(word)))
