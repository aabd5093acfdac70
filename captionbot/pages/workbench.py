"""The alt texts of one visitor's photos: proposed a few at a time, shown as cards, edited, handed out.

`workbench.js` is the gallery in the browser, of both pages. What it is given is made by `presenters.batch`;
what it sends back, and so may hold anything, goes through `Bench.edit` and `Bench.card`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from captionbot.bulk.records import Result
from captionbot.bulk.review import MAX_ALT, Entry, entry_of, parse, queue
from captionbot.draw.files import text_beside
from captionbot.errors import CaptionBotError, displayable
from captionbot.images.load import ImageSource, Preprocessing
from captionbot.pages.batches import caption_photos
from captionbot.pages.limits import MAX_REVIEW_MEGABYTES
from captionbot.search.options import SearchOptions
from captionbot.text.alt_text import LIMIT, STYLES, alt_text

if TYPE_CHECKING:
    from captionbot.bulk.folder import Loaded

THUMBNAIL = 240  # pixels
RESUMABLE = 16  # benches that are kept for whoever reloads the page
KEPT = 3600  # seconds that texts are kept after they were proposed: a review takes longer than a look
REVIEWS = (".csv", ".jsonl")


def script() -> str:
    return text_beside(__file__, ".js")


def style() -> str:
    return text_beside(__file__, ".css")


class Card(NamedTuple):
    """A photo of a bench: thumbnail is a data URL, "" of what could not be read."""

    entry: Entry
    thumbnail: str


@dataclass
class Bench:
    """What one visitor's photos are called and said to show. It lives as long as the visit.

    model: the captioner's name as it may be told. total: photos that there will be, None where nobody knows.
    """

    model: str
    total: int | None = None
    cards: list[Card] = field(default_factory=list)
    batch: str = field(default_factory=lambda: secrets.token_hex(16))  # only its visitor's browser knows it

    @property
    def entries(self) -> list[Entry]:
        return [card.entry for card in self.cards]

    @property
    def known(self) -> dict[str, Entry]:
        """What need not be captioned again, by name."""
        return {entry.image: entry for entry in self.entries if not entry.error}

    def edit(self, edits: Any) -> None:
        """Takes what a browser says was changed: {place: [text, accepted]}; anything else is left out."""
        for place, edit in edits.items() if isinstance(edits, Mapping) else ():
            match edit:
                case [str(alt), bool(accepted)] if len(alt) <= 2 * MAX_ALT:
                    card = self.card(place)
                    if card is not None and not card.entry.error:
                        changed = card.entry.with_alt(displayable(alt), accepted)
                        self.cards[int(place)] = card._replace(entry=changed)

    def card(self, place: Any) -> Card | None:
        """The card at a place that a browser named."""
        if isinstance(place, str | int) and not isinstance(place, bool):
            text = str(place)
            if text.isascii() and text.isdecimal() and len(text) < 8 and int(text) < len(self.cards):
                return self.cards[int(text)]
        return None


class Shelf:
    """Benches that visitors go on with once they reloaded the page, by the secret names that their browsers
    keep: the newest ones, without the photos, for an hour at most."""

    def __init__(self) -> None:
        self._benches: dict[str, tuple[float, Bench, Any]] = {}
        self._lock = Lock()

    def keep(self, bench: Bench, of: Any = None) -> None:
        """of: what else a page keeps of it."""
        with self._lock:
            self._benches.pop(bench.batch, None)
            self._benches[bench.batch] = time.monotonic(), bench, of
            old = [name for name, (since, _, _) in self._benches.items() if time.monotonic() - since > KEPT]
            for name in {*old, *list(self._benches)[:-RESUMABLE]}:
                del self._benches[name]

    def get(self, batch: Any) -> tuple[Bench, Any] | None:
        """The bench of a name that a browser tells, and what else was kept of it."""
        with self._lock:
            since, bench, of = self._benches.get(batch if isinstance(batch, str) else "", (0.0, None, None))
        return (bench, of) if bench is not None and time.monotonic() - since <= KEPT else None

    def drop(self, bench: Bench) -> None:
        with self._lock:
            self._benches.pop(bench.batch, None)


SHELF = Shelf()


def styled(options: SearchOptions, style: str) -> SearchOptions:
    """Search options with those of a style of alt text.

    Raises CaptionBotError for a style that there is not.
    """
    if style not in STYLES:
        raise CaptionBotError(f"There is no such style; choose one of {', '.join(STYLES)}.")
    changes = dict(STYLES[style])
    if options.sample or options.num_groups > 1:
        changes.pop("beam_size", None)
    elif "beam_size" in changes:
        changes["beam_size"] = max(changes["beam_size"], options.num_return)
    return replace(options, **changes)


def propose(
    sources: Iterable[ImageSource],
    wanted: Preprocessing,
    caption: Callable[[list[Loaded]], list[Result]],
    model: str,
    known: Mapping[str, Entry],
    limit: int = LIMIT,
) -> Iterator[Card]:
    """A card for every photo in its order, as `caption_photos` does it; captioned is what is not known.

    model: the captioner's name as it may be told.
    known: entries by the names of photos, or by the last part of these.
    """

    def some(loaded: list[Loaded]) -> list[Any]:
        new = [(name, image) for name, image in loaded if _known(known, name) is None]
        said = iter(caption(new)) if new else iter(())
        return [
            (name, entry) if (entry := _known(known, name)) is not None else next(said) for name, _ in loaded
        ]

    found: Any  # an entry that was known, or what a captioner says
    for (name, found), thumbnail in caption_photos(sources, wanted, some, THUMBNAIL):
        if isinstance(found, Entry):
            yield Card(replace(found, image=name, accepted=found.done), thumbnail)
        else:
            yield Card(entry_of((name, found), model, limit), thumbnail)


def _known(known: Mapping[str, Entry], name: str) -> Entry | None:
    return known.get(name) or known.get(name.rpartition("/")[2])


def reviewed(files: Sequence[tuple[str, bytes]]) -> dict[str, Entry]:
    """The entries of reviews that a visitor uploads beside the photos, by name and by its last part.

    Raises CaptionBotError for a file that is too large or no review.
    """
    found: dict[str, Entry] = {}
    for name, data in files:
        if len(data) > MAX_REVIEW_MEGABYTES * 1_000_000:
            raise CaptionBotError(
                f"{displayable(name)} is larger than {MAX_REVIEW_MEGABYTES} MB: review fewer at a time."
            )
        found |= {entry.image: entry for entry in parse(data, displayable(name)) if not entry.error}
    ends = [image.replace("\\", "/").rpartition("/")[2] for image in found]
    of_one = {end: entry for end, entry in zip(ends, found.values(), strict=True) if ends.count(end) == 1}
    return of_one | found


def is_review(name: str) -> bool:
    return name.lower().endswith(REVIEWS)


def order(bench: Bench) -> list[int]:
    """The place of each card in the queue of what is to review."""
    places = queue(bench.entries)
    ranks = [0] * len(places)
    for rank, place in enumerate(places):
        ranks[place] = rank
    return ranks


def wordings(entry: Entry) -> list[str]:
    """What else the captioner could have said, as alt texts that differ."""
    captions = [str(caption.get("text", "")) for caption in entry.record.get("captions", ())[1:]]
    texts = dict.fromkeys(alt_text(caption) for caption in captions)
    return [text for text in texts if text and text != entry.caption]


def doubtful_word(entry: Entry) -> str:
    """The word of the proposed text that is likeliest wrong, "" without one."""
    try:
        best = entry.record["captions"][0]
        return str(best["words"][best["judgement"]["doubtful_word"]]["text"])
    except (LookupError, TypeError):
        return ""
