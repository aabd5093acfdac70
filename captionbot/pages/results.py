"""What was measured of captioners, as files that the pages show.

`python -m training.leaderboard` writes scores, sizes and speed, `training.faithfulness` for which words
heatmaps are true, and `training.gallery` what captioners said of the photos of a split, with the score of
every caption.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError
from captionbot.explain.faithfulness import Faithfulness
from captionbot.pages.resident import cards_here
from captionbot.store.card import Card
from captionbot.store.folders import weights_folder
from captionbot.store.registry import find_card, list_cards
from captionbot.text.tokenizer import tokenize

if TYPE_CHECKING:
    from PIL import Image

_ALIKE = 64  # pixels of the longest side, at which two photos are compared
WAYS = ("Best", "Worst", "Most different")


def leaderboard() -> list[dict[str, Any]]:
    """Rows of leaderboard.json of the captioners that are here, then the scores on the cards of others,
    each best CIDEr first."""
    cards = {card.name: card for card in map(Card.load, list_cards())}
    rows = [row for row in _read(weights_folder() / "leaderboard.json") if row["name"] in cards]
    known = {row["name"] for row in rows}
    others = [
        {"name": card.name, "family": card.family, "parameters": card.parameters, **card.scores}
        for card in cards.values()
        if card.scores and card.name not in known
    ]
    return rows + sorted(others, key=lambda row: -row.get("CIDEr", 0.0))


def stamp() -> tuple[tuple[str, int], ...]:
    """What changes as soon as a card or the leaderboard does."""
    files = [*cards_here(), weights_folder() / "leaderboard.json"]
    return tuple((str(path), path.stat().st_mtime_ns) for path in files if path.is_file())


def heatmaps_true(captioner: str) -> Faithfulness | None:
    """For which words a captioner's maps are true over many photos; None where faithfulness.json does not
    say, says it of other weights, or was written by an earlier version."""
    for row in _read(weights_folder() / "faithfulness.json"):
        if row["name"] == captioner and row["sha256"] == Card.load(find_card(captioner)).sha256:
            try:
                return Faithfulness.from_json(row)
            except (KeyError, TypeError):
                return None
    return None


def _read(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


@dataclass(frozen=True)
class Shot:
    """One photo. references: what people wrote; captions, scores: of every captioner, by name (CIDEr)."""

    photo: str
    references: tuple[str, ...]
    captions: Mapping[str, str]
    scores: Mapping[str, float]

    @property
    def difference(self) -> float:
        """0 to 1: the share of the words of two captions that only one of them has (Jaccard's distance), a
        mean over all pairs of captioners."""
        said = [frozenset(tokenize(caption)) for caption in self.captions.values()]
        apart = [1 - len(a & b) / max(1, len(a | b)) for a, b in combinations(said, 2)]
        return sum(apart) / max(1, len(apart))


@dataclass(frozen=True)
class Gallery:
    """The photos of a split. images: the folder or archive that they lie in; captioners: best first."""

    images: Path
    split: str
    captioners: tuple[str, ...]
    shots: tuple[Shot, ...]

    @classmethod
    def load(cls, path: Path) -> Gallery:
        """Raises CaptionBotError where the file is missing or is something else."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            names = tuple(found["captioners"])
            shots = tuple(
                Shot(
                    shot["photo"],
                    tuple(shot["references"]),
                    {name: shot["captions"][name]["text"] for name in names},
                    {name: float(shot["captions"][name]["CIDEr"]) for name in names},
                )
                for shot in found["shots"]
            )
            return cls(Path(found["images"]), found["split"], names, shots)
        except OSError as error:
            raise CaptionBotError(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CaptionBotError(
                f"{path} is not what python -m training.gallery writes; write it again ({error!r})."
            ) from error

    @property
    def ways(self) -> tuple[str, ...]:
        """What `chosen` can be asked for."""
        return WAYS if len(self.captioners) > 1 else WAYS[:2]

    def chosen(self, way: str, captioner: str, count: int) -> list[Shot]:
        """The photos with a captioner's best or worst captions, or the most different ones of all."""
        best, worst, _ = WAYS
        keys: dict[str, Callable[[Shot], float]] = {
            best: lambda shot: -shot.scores[captioner],
            worst: lambda shot: shot.scores[captioner],
        }
        return sorted(self.shots, key=keys.get(way, lambda shot: -shot.difference))[:count]

    def photos(self, shots: Iterable[Shot], longest: int) -> dict[str, Image.Image]:
        """Their photos by name, as many as are there; longest: pixels of the longest side."""
        from captionbot.draw.overlays import fit
        from captionbot.images.load import find_images

        wanted = {shot.photo for shot in shots}
        found: dict[str, Image.Image] = {}
        archives = sorted(self.images.rglob("*.tar")) if self.images.is_dir() else []
        for source in find_images([self.images, *archives]):
            name = Path(source.name).name
            if name in wanted and name not in found:
                found[name] = fit(source.load(), longest)
                if len(found) == len(wanted):
                    break
        return found


def written_of(name: str, image: Image.Image) -> tuple[str, ...]:
    """What people wrote of a photo, where it is one of those that the pages show: by its file's name, and
    since a name alone says little, by how it looks."""
    import numpy as np

    from captionbot.draw.overlays import fit

    file = gallery_file()
    gallery = Gallery.load(file) if file else None
    shot = next((shot for shot in gallery.shots if shot.photo == name), None) if gallery else None
    known = gallery.photos([shot], _ALIKE).get(name) if gallery and shot else None
    small = fit(image, _ALIKE)
    if shot is None or known is None or known.size != small.size:
        return ()
    apart = np.abs(np.asarray(known, np.float32) - np.asarray(small, np.float32)).mean()
    return shot.references if apart < 4 else ()


def gallery_file() -> Path | None:
    """The file that the pages show: the environment variable CAPTIONBOT_VAL names it."""
    named = os.environ.get("CAPTIONBOT_VAL")
    return Path(named) if named else None
