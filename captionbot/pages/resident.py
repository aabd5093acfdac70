"""Which captioners are here, and the one of them that a page keeps in memory."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

from captionbot.errors import CaptionBotError
from captionbot.host import IMPORTS, uncollected
from captionbot.store.card import Card
from captionbot.store.registry import DEFAULT, find_card, imported_cards, list_cards

if TYPE_CHECKING:  # torch takes seconds to import: the pages are there before that
    from captionbot.captioner import Captioner

_held: dict[Hashable, Captioner] = {}
_lock = Lock()
_uploading = Lock()  # one upload is unpacked and checked at a time: each may fill some 200 MB


def cards_here() -> list[Path]:
    """The cards of the captioners that ship and of those that were imported, of a name once."""
    return [*{path.stem: path for path in (*imported_cards(), *list_cards())}.values()]


def captioners() -> dict[str, str]:
    """The titles of the captioners that are here, by name: the default first, then the best CIDEr; those that
    were imported come after those that ship.

    Of a title that several have, each is followed by its name. A damaged card has its name for a title:
    what is wrong with it is said once it is chosen.
    """
    titles, places = {}, {}
    chosen = os.environ.get(DEFAULT)
    if chosen:
        with suppress(CaptionBotError):  # what is wrong with it is said once it is asked for
            find_card(chosen)  # which takes it from the user's cache of the Hub
    shipped = list_cards()
    for path in cards_here():
        imported = path not in shipped
        try:
            card = Card.load(path)
            titles[path.stem] = card.title
            first = path.stem == chosen if chosen else card.default
            places[path.stem] = not first, imported, -card.scores.get("CIDEr", 0.0)
        except (CaptionBotError, TypeError):
            titles[path.stem] = path.stem
            places[path.stem] = True, imported, 0.0
    known = Counter(titles.values())
    return {
        name: titles[name] if known[titles[name]] == 1 else f"{titles[name]} · {name}"
        for name in sorted(titles, key=places.__getitem__)
    }


def resident(name: str | None = None) -> Captioner:
    """The one captioner that a page keeps in memory, of a name as `find_card` takes it; None: the default.

    All sessions of the page share it. The one before is let go before another is loaded, so that a page
    needs the memory of one; a call that is still at work keeps the old one until it is done.
    """
    card = find_card(name)

    def load() -> Captioner:
        from captionbot.captioner import Captioner

        return Captioner.from_pretrained(card)

    return _only(card, load)


def load_ahead() -> None:
    """Begin to load the default captioner, which takes as long as a page and a browser need to start.

    Whoever asks for it meanwhile waits for the same one.
    """
    Thread(target=_load_ahead, name="captioner", daemon=True).start()


def _load_ahead() -> None:
    with uncollected():
        import torch  # noqa: F401  # before the lock, which whoever shows the page has need of

        with IMPORTS:
            import captionbot.captioner  # noqa: F401
    with suppress(CaptionBotError):  # which is said to whoever asks for it
        resident()


def resident_upload(files: Sequence[tuple[str, bytes]]) -> Captioner:
    """`resident` of the files that a visitor uploaded, as `uploads.load_captioner` takes them.

    What they ask for is checked before the captioner in memory makes room: others go on with it meanwhile.
    """
    from captionbot.pages.uploads import checked, load_checked

    key = upload_key(files)
    if held := _held.get(key):
        return held
    with _uploading, checked(files) as card:
        return _only(key, lambda: load_checked(card))


def upload_key(files: Sequence[tuple[str, bytes]]) -> str:
    """What tells the captioner of these files from all others."""
    return hashlib.sha256(b"".join(hashlib.sha256(data).digest() for _, data in sorted(files))).hexdigest()


def _only(key: Hashable, load: Callable[[], Captioner]) -> Captioner:
    with _lock:
        if key not in _held:
            if _held:
                _held.clear()
                _give_back()
            with uncollected():
                _held[key] = load()
            # Streamlit collects garbage after every click: torch's 300,000 objects would be gone through.
            gc.collect()
            gc.freeze()
        return _held[key]


def _give_back() -> None:
    """Free what nobody holds, and hand its memory to the system, which C libraries would keep."""
    gc.unfreeze()
    gc.collect()  # modules can hold each other
    gc.freeze()  # what is left is not gone through again as another is loaded
    with suppress(OSError, AttributeError):  # it is glibc's
        ctypes.CDLL("libc.so.6").malloc_trim(0)
