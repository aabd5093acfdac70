"""How good the captioners are: the leaderboard, and their captions of photos that people described."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

from captionbot.pages import results
from captionbot.pages.presenters.seen import Column, Picture, Table
from captionbot.pages.results import WAYS, Gallery, Shot
from captionbot.pages.work import Work
from captionbot.store.card import Card
from captionbot.text.display import plain, sentence

__all__ = ["WAYS"]

TITLE = "Results"
INTRODUCTION = (
    "Scores of coco-caption on photos of Flickr8k that no captioner was trained on, higher is better. "
    "CIDEr counts the phrases that a caption shares with what people wrote, rare ones more; BLEU-4 counts "
    "runs of four words."
)
NONE = "No captioner that is here has scores on its card."
ABOUT = "About these captioners"
GALLERY = "Best, worst, most different captions"
WAY, CAPTIONER = "Captions", "Captions of"
PEOPLE = "What people wrote"
METRICS = {"CIDEr": "CIDEr", "BLEU-4": "Bleu_4", "METEOR": "METEOR", "ROUGE-L": "ROUGE_L"}
SHOTS = 6
PICTURE, DRAWING = "Picture", "Drawing what was measured…"


def leaderboard(work: Work) -> Table:
    """What was measured of the captioners that are here, best CIDEr first."""
    columns = (
        Column("Captioner"),
        Column("Search"),
        *(Column(title, 3, bar=1.2 if title == "CIDEr" else None) for title in METRICS),
        Column("Photos"),
        Column("Million parameters", 1),
        Column("Photos a second", 1),
    )
    rows = [
        [
            work.title(row["name"]),
            search_title(row.get("beam_size")),
            *(row.get(name) for name in METRICS.values()),
            " of ".join(str(row[key]) for key in ("images", "split") if key in row),
            row["parameters"] / 1e6,
            row.get("images_per_second"),
        ]
        for row in results.leaderboard()
    ]
    return Table(columns, rows, "The captioners with their scores, sizes and speed, best CIDEr first.")


def search_title(beam_size: int | None) -> str:
    return "" if beam_size is None else "greedy" if beam_size == 1 else f"beam {beam_size}"


def speed() -> str:
    """On which machines speed was measured; "" where it was not."""
    machines = sorted(
        {
            f"{row['device'].upper()}, {row['threads']} thread{'s' * (row['threads'] != 1)}"
            for row in results.leaderboard()
            if row.get("images_per_second")
        }
    )
    return f"Speed from a photo's bytes to its caption: {' or '.join(machines)}." if machines else ""


def descriptions(work: Work) -> list[tuple[str, str, str]]:
    """Title, name and description of every captioner that is here."""
    return [(title, name, work.card(name).description) for name, title in work.captioners().items()]


def facts(card: Card) -> list[str]:
    """What is known of one captioner, in short."""
    measured = {title: card.scores.get(name) for title, name in METRICS.items()}
    scores = [f"{title} {value:.3f}" for title, value in measured.items() if isinstance(value, float)]
    facts = [card.name, f"{card.parameters / 1e6:.1f} million parameters", *scores, card.licence]
    return [fact for fact in facts if fact]


def chosen(way: str, gallery: Gallery) -> str:
    """How the photos of a gallery were chosen."""
    if way == WAYS[-1]:
        return "The photos of whose captions the captioners share the fewest words."
    return f"Of {len(gallery.shots)} photos, by the CIDEr of its caption."


class Described(NamedTuple):
    """A photo that people described; picture: None where it is not there. captions: with title and CIDEr."""

    picture: Picture | None
    missing: str
    captions: list[tuple[str, str]]
    references: list[str]


def described(work: Work, shot: Shot, image: Image.Image | None, captioner: str | None = None) -> Described:
    """captioner: whose caption is shown; None: all of them."""
    return Described(
        Picture(image, f"A person says: {shot.references[0]}") if image else None,
        f"{shot.photo} is not among the photos.",
        [
            (sentence(text), f"{work.title(name)} · CIDEr {shot.scores[name]:.2f}")
            for name, text in shot.captions.items()
            if captioner in (None, name)
        ],
        list(shot.references),
    )


def written(described: Described) -> str:
    """All that is said of a photo, as the label of its picture."""
    said = [f"{caption} ({score})" for caption, score in described.captions]
    return "\n".join([*said, f"A person: {sentence(described.references[0].strip(' .'))}"])


def markdown(descriptions: list[tuple[str, str, str]]) -> str:
    return "\n\n".join(f"**{plain(title)}** · `{name}` · {plain(text)}" for title, name, text in descriptions)
