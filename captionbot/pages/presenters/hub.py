"""Captioners of the Hugging Face Hub on a page: what each costs and is good at, and how far a download is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from captionbot.pages.offers import DOWNLOADS, STRENGTH, Offer, State, offers, strongest
from captionbot.text.display import plain

TITLE = "Stronger captioners"
INTRODUCTION = (
    "Captioners of the Hugging Face Hub, which learnt from millions of photos. One is fetched once, and then "
    "works without a network."
)
CHOOSE = "Captioner to fetch"
FETCH, STOP = "Download", "Stop the download"
CHECKING = "Checking"


class Ask(NamedTuple):
    """A button that brings a stronger captioner. model: its name; here: whether it only has to be chosen."""

    label: str
    model: str
    here: bool


def costs(offer: Offer) -> str:
    """990 MB to download, 1.2 GB of memory, about 2 s a photo on this machine."""
    parts = [f"{offer.memory / 1e9:.1f} GB of memory"]
    if offer.size:
        parts.insert(0, f"{megabytes(offer.size)} to download")
    if offer.seconds is not None:
        parts.append(f"about {_seconds(offer.seconds)} a photo on this machine")
    return ", ".join(parts)


def megabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 999_500_000 else f"{size / 1e6:.0f} MB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 3 else f"{seconds:.0f} s"


def choices(listed: Collection[Offer]) -> dict[str, str]:
    """What can be fetched: labels by name."""
    return {
        offer.name: f"{offer.title} · {megabytes(offer.size)}" if offer.size else offer.title
        for offer in listed
    }


def facts(offer: Offer) -> str:
    """What one is good at and costs, as Markdown."""
    lacks = f" **{plain(offer.lacks[:1].upper() + offer.lacks[1:])}.**" if offer.lacks else ""
    cost = costs(offer)
    return f"{plain(offer.note)} {cost[:1].upper()}{cost[1:]}. Licence: {plain(offer.licence)}.{lacks}"


def stronger_here(captioners: Collection[str]) -> str:
    """The name of the strongest captioner of the Hub that can be chosen, "" without one."""
    return next((name for name in STRENGTH if name in captioners), "")


def ask(captioners: Mapping[str, str]) -> Ask | None:
    """What brings a stronger captioner; None where there is none. captioners: titles by name."""
    if here := stronger_here(captioners):
        return Ask(f"Ask {captioners[here]}", here, True)
    offer = strongest(offers())
    if offer is None or DOWNLOADS.state.running:
        return None
    size = f" ({megabytes(offer.size)})" if offer.size else ""
    return Ask(f"Download {offer.title}{size}", offer.name, False)


def share(state: State) -> float:
    """How much of the file is here, 0 to 1."""
    return min(1.0, state.done / state.total) if state.total else 0.0


def progress(state: State) -> str:
    """How far a download is, or how it ended, as a sentence; "" before the first."""
    if not state.name:
        return ""
    if state.stopping:
        return f"{state.title}: stopping…"
    if state.running:
        if state.total and state.done >= state.total:
            return f"{state.title}: {CHECKING.lower()} what was fetched…"
        of = f" of {megabytes(state.total)}" if state.total else ""
        return f"{state.title}: {megabytes(state.done)}{of}"
    return state.problem or f"{state.title} is here: choose it as the captioner."
