"""Captioners of the Hugging Face Hub that a page can fetch: what each costs on this machine, and the one
download that is under way.

A page offers them where its host says so by CAPTIONBOT_HUB=1; `captionbot app` says so for whoever listens to
this machine alone. A visitor names a captioner of weights/table.json and nothing else.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import Lock, Thread
from typing import TYPE_CHECKING

from captionbot.errors import CaptionBotError, shortened
from captionbot.files import cache_folder
from captionbot.host import HUB
from captionbot.pages.resident import cards_here
from captionbot.store.card import room_of
from captionbot.store.memory import available
from captionbot.store.weights import WeightFile, weight_files

if TYPE_CHECKING:  # torch takes seconds to import: the pages are there before that
    from torch import Tensor

STRENGTH = (
    "florence-2-base-ft",
    "git-large-coco",
    "blip-large",
    "blip-base",
    "git-base-coco",
    "vit-gpt2",
)
"""The strongest first, by what is published of them; none was scored here."""
_PATIENCE = 15.0  # seconds of this machine for a caption, after which another is offered


@dataclass(frozen=True)
class Offer:
    """A captioner that can be fetched.

    size: bytes to download, None where nobody says. memory: bytes that it needs with what it works out.
    products: what a caption of it costs, in those of `product`; None where that was never measured.
    lacks: what this machine has too little of, as the end of a sentence; "" where it fits.
    """

    name: str
    title: str
    size: int | None
    memory: int
    products: float | None
    licence: str
    note: str
    lacks: str = ""

    @property
    def seconds(self) -> float | None:
        """About how long a caption takes here; None as long as nothing has imported torch, which a page that
        is opened does not wait for."""
        if self.products is None or "torch" not in sys.modules:
            return None
        return self.products * seconds_of_a_product()


@dataclass(frozen=True)
class State:
    """How far the one download is. name: "" before the first.

    done, total: bytes of the file that is being fetched; total is None where nobody says it.
    running: whether it goes on; stopping: whether it was told to stop.
    problem: why it ended without a captioner.
    """

    name: str = ""
    title: str = ""
    done: int = 0
    total: int | None = None
    running: bool = False
    stopping: bool = False
    problem: str = ""


class _StoppedError(CaptionBotError):
    """A visitor does not want it any more."""


def offered() -> bool:
    """Whether visitors may have captioners fetched."""
    return os.environ.get(HUB, "").strip().lower() in ("1", "on", "yes", "true")


def offers() -> list[Offer]:
    """The captioners of the Hub that are not here, the strongest first; none where none are offered."""
    if not offered():
        return []
    here = {card.stem for card in cards_here()}
    lines = [line for line in weight_files() if line.importer == "hub" and line.name not in here]
    rank = {name: place for place, name in enumerate(STRENGTH)}
    return [_offer(line) for line in sorted(lines, key=lambda line: rank.get(line.name, len(rank)))]


def offer_of(name: str) -> Offer | None:
    """That of a name, None where there is none."""
    return next((offer for offer in offers() if offer.name == name), None)


def strongest(offers: Collection[Offer]) -> Offer | None:
    """The strongest that this machine has room and patience for."""
    fitting = [offer for offer in offers if not offer.lacks and (offer.seconds or 0) <= _PATIENCE]
    return next((offer for offer in fitting if offer.name in STRENGTH), None)


def _offer(line: WeightFile) -> Offer:
    size = line.size or (line.megabytes or 0) * 1_000_000 or None
    memory = room_of((line.parameters or 0) * 1_000_000)
    return Offer(
        line.name,
        line.title or line.name,
        size,
        memory,
        line.products,
        line.licence,
        line.note,
        _lacking(size or 0, memory),
    )


def _lacking(size: int, memory: int) -> str:
    with suppress(CaptionBotError, OSError):
        folder = cache_folder()
        folder = next(path for path in (folder, *folder.parents) if path.exists())
        if shutil.disk_usage(folder).free < size:
            return "this machine's disk has no room for it"
    left = available()
    return "this machine has too little memory" if left is not None and left < memory else ""


def product() -> Callable[[], Tensor]:
    """One layer of a ViT, (577, 768) by (768, 3072) in float32: `benchmarks.hub` says how many of them a
    caption is worth."""
    import torch
    from torch.nn import functional as F

    return partial(F.linear, torch.ones(577, 768), torch.ones(3072, 768))


@cache
def seconds_of_a_product() -> float:
    """What that takes of this machine, the best of some."""
    run, taken = product(), []
    for _ in range(8):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


class Downloads:
    """The one download of a page, in a thread of its own, so that all visitors go on meanwhile."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._state = State()

    @property
    def state(self) -> State:
        return self._state

    def start(self, name: str) -> None:
        """Begin to fetch a captioner. CaptionBotError where it is none that is offered, does not fit, or
        another is under way."""
        offer = offer_of(name)
        if offer is None:
            raise CaptionBotError(
                f"'{shortened(name, 60)}' cannot be fetched here: choose what the page offers."
            )
        if offer.lacks:
            raise CaptionBotError(f"{offer.title} cannot be fetched: {offer.lacks}.")
        with self._lock:
            if self._state.running:
                if self._state.name == name and not self._state.stopping:
                    return
                raise CaptionBotError(
                    f"{self._state.title} is being fetched: wait for it, or stop it, and ask again."
                )
            self._state = State(offer.name, offer.title, 0, offer.size, running=True)
        Thread(target=self._fetch, args=(name,), name="download", daemon=True).start()

    def stop(self) -> None:
        """Have it end soon; what is here of it is kept, and goes on when it is begun again."""
        with self._lock:
            if self._state.running:
                self._state = replace(self._state, stopping=True)

    def _fetch(self, name: str) -> None:
        from captionbot.store.importers.hub import download_hub

        problem = ""
        try:
            download_hub(name, progress=self._told)
        except _StoppedError:
            problem = "Stopped. What is here of it is kept: it goes on there when you ask again."
        except CaptionBotError as error:
            problem = str(error)
        except Exception:  # or a page would wait for ever
            problem = "It could not be fetched: ask again later."
            raise
        finally:
            with self._lock:
                self._state = replace(self._state, running=False, stopping=False, problem=problem)

    def _told(self, done: int, total: int | None) -> None:
        with self._lock:
            if self._state.stopping:
                raise _StoppedError
            self._state = replace(self._state, done=done, total=total)


DOWNLOADS = Downloads()
