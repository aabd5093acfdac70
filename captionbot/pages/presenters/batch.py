"""Alt texts of many photos: files or a .zip in, cards to review, and files to download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from captionbot.bulk import alt_exports
from captionbot.bulk.review import Entry, csv_bytes, jsonl_bytes
from captionbot.errors import CaptionBotError, displayable
from captionbot.files import utf8
from captionbot.images.embedding import can_embed
from captionbot.pages.limits import MAX_BATCH_PHOTOS, MAX_EMBED_MEGABYTES
from captionbot.pages.presenters.judgement import COLOURS
from captionbot.pages.presenters.share import File
from captionbot.pages.workbench import Bench, doubtful_word, order, wordings
from captionbot.progress import line
from captionbot.text.alt_text import LIMIT
from captionbot.text.display import percent, sentence
from captionbot.text.judgement import NAMES

TITLE = "Alt text"
INTRODUCTION = (
    "Drop in photos, or a .zip of them. Every photo gets one proposed alt text; look them through, the least "
    "sure first, and download them. To go on with an earlier review, drop its CSV or JSONL in as well."
)
FILES = "Photos, .zip files of them, and an earlier review"
STYLE = "Style"
STYLE_HELP = "Short has seven words at most, detailed at least twelve; what is seen is the same."
STYLES = {"plain": "Plain", "short": "Short", "detailed": "Detailed"}
READING = "Reading the photos…"
NONE = "There are no photos yet: upload some, or a .zip of them."
LET_GO = "There are no alt texts here, or this page was left alone for too long: upload the photos again."
GONE = "The photos are not here any more, only their texts: start over with the photos to explore one."
STOP, GO_ON, AGAIN = "Stop", "Go on", "Start over"
EXPORT = "Download"
EXPORT_HELP = (
    "A text that you accepted or changed is marked as accepted. Descriptions inside the photos' own files: "
    "`captionbot alt PHOTOS --from alt-text.csv --embed`."
)
EMBED = "Photos with their descriptions"
MAKE = "Make the files"
WRITTEN = "Files"


def button(files: int | None = None) -> str:
    return "Propose alt texts" if files is None else f"Propose alt texts for {files} file{'s' * (files > 1)}"


def so_far(bench: Bench, seconds: float, before: int = 0) -> str:
    """How far it is, and what time is left. before: cards that were there when the seconds began."""
    done = len(bench.cards)
    total = None if bench.total is None else min(bench.total, MAX_BATCH_PHOTOS)
    return line(done, total, (done - before) / seconds if seconds > 0 else 0.0)


def share(bench: Bench) -> float:
    """How far it is, 0..1."""
    return min(1.0, len(bench.cards) / max(bench.total or 0, len(bench.cards) + 1))


def note(bench: Bench) -> str:
    bad = len(unread(bench))
    return f"{len(bench.cards) - bad} captioned, {bad} could not be read."


def rest(bench: Bench) -> str:
    """How to go on with a bench whose photos are not here any more; "" where nothing is left to do."""
    left = min(bench.total or 0, MAX_BATCH_PHOTOS) - len(bench.cards)
    if left <= 0:
        return ""
    return f"{left} were not captioned yet: download the JSONL, start over, and drop it in with all photos."


def unread(bench: Bench) -> list[str]:
    """Why there are photos without captions."""
    return [entry.error for entry in bench.entries if entry.error]


def chosen(bench: Bench, place: Any) -> Entry:
    """The photo that a browser says is to be explored; CaptionBotError where it is none of them."""
    card = bench.card(place)
    if card is None:
        raise CaptionBotError(LET_GO)
    return card.entry


def gallery(bench: Bench, running: bool = False) -> dict[str, Any]:
    """What the gallery in the browser is given."""
    ranks = order(bench)
    return {
        "batch": bench.batch,
        "running": running,
        "says": SAYS,
        "cards": [
            {
                "id": place,
                "rank": rank,
                "name": displayable(card.entry.image),
                "thumbnail": card.thumbnail,
                "error": displayable(card.entry.error),
                "alt": card.entry.alt,
                "proposed": card.entry.caption,
                "accepted": card.entry.accepted,
                "others": wordings(card.entry),
                "limit": LIMIT,
                **judged(card.entry),
            }
            for place, (card, rank) in enumerate(zip(bench.cards, ranks, strict=True))
        ],
    }


def judged(entry: Entry) -> dict[str, str]:
    """The band of a card, its colour, how sure the captioner is, and what to look at."""
    if entry.confidence is None:
        sure = ""
    elif entry.band:
        sure = f"{percent(entry.confidence)} likely right"
    else:
        sure = f"wording {percent(entry.confidence)} likely"
    word = doubtful_word(entry)
    notes = [sentence(entry.reason)] if entry.reason else []
    notes += [f"Check “{word}”."] if word else []
    return {
        "band": NAMES.get(entry.band, ""),
        "colour": COLOURS.get(entry.band, ""),
        "sure": sure,
        "note": displayable(" ".join(notes)),
    }


SAYS: dict[str, Any] = {
    "filters": "Which photos are shown",
    "names": {"review": "To review", "accepted": "Accepted", "all": "All", "failed": "Not read"},
    "order": "Order",
    "orders": {"sure": "Least sure first", "given": "As given"},
    "keys": [["Enter", "accept, next"], ["Alt+↓", "next"], ["Esc", "as proposed"]],
    "open": "Explore this photo: where the captioner looked, and why",
    "openOne": "Explore {name}",
    "text": "Alt text of {name}",
    "count": "{n}/{limit}",
    "long": f"Longer than {LIMIT} characters: some screen readers stop there.",
    "accept": "Accept",
    "accepted": "Accepted",
    "edited": "Changed",
    "back": "Review again",
    "other": "Another wording",
    "otherHelp": "What else the captioner nearly said",
    "through": "All reviewed. Download the texts below, or look at all of them.",
    "none": "There are none of these.",
    "live": "{name} accepted, {left} left to review.",
}


def embedding(bench: Bench, photo: Callable[[str], bytes | None]) -> list[File]:
    """Copies of the photos with their texts in them, where the library for that is here.

    photo: the bytes of a photo by its name, None where it is not here any more.
    """
    if not can_embed():
        return []
    return [File(EMBED, "photos.zip", "application/x-zip-photos", lambda: _embedded(bench, photo))]


def _embedded(bench: Bench, photo: Callable[[str], bytes | None]) -> bytes:
    found, room = [], MAX_EMBED_MEGABYTES * 1_000_000
    for entry in alt_exports.written(bench.entries):
        data = photo(entry.image)
        if data is None:
            raise CaptionBotError(LET_GO)
        room -= len(data)
        if room < 0:
            raise CaptionBotError(
                f"These photos are larger than {MAX_EMBED_MEGABYTES} MB together: take the sidecars, or use "
                "`captionbot alt PHOTOS --from alt-text.csv --embed`."
            )
        if entry.alt:
            found.append((entry.image, data, entry.alt))
    return alt_exports.zipped(alt_exports.embedded(found))


def files(bench: Bench) -> list[File]:
    """What there is to download, as it is when it is asked for."""

    def written() -> list[Entry]:
        return alt_exports.written(bench.entries)

    def page() -> str:
        pictures = {id(card.entry): card.thumbnail for card in bench.cards}
        return alt_exports.html(written(), picture=lambda entry: pictures[id(entry)])

    def zipped(make: Callable[[list[Entry]], Any]) -> Callable[[], bytes]:
        return lambda: alt_exports.zipped(make(written()))

    return [
        File(
            "Everything (.zip)",
            "alt-text.zip",
            "application/zip",
            lambda: alt_exports.everything(bench.entries, page),
        ),
        File("CSV", alt_exports.CSV, "text/csv", lambda: csv_bytes(bench.entries)),
        File("JSONL", alt_exports.JSONL, "application/jsonl", lambda: jsonl_bytes(bench.entries)),
        File("HTML", alt_exports.HTML, "text/html", lambda: utf8(page())),
        File("One .txt a photo", "alt-text-txt.zip", "application/x-zip", zipped(alt_exports.texts)),
        File("XMP sidecars", "alt-text-xmp.zip", "application/x-zip-xmp", zipped(alt_exports.sidecars)),
    ]
