"""Which weights there are: captioners that ship, and other people's files that download."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.fields import check_fields
from captionbot.files import read_json
from captionbot.images.archives import is_file, is_folder
from captionbot.store.downloads import DELAYS, Progress, download_file, recorded_sha256

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "_weights"  # of a wheel, which has the default captioner alone: see hatch_build.py
_SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "weights"


def weights_folder() -> Path:
    """The folder of the weights that ship, of a checkout or a wheel; CAPTIONBOT_WEIGHTS names another."""
    return Path(os.environ.get("CAPTIONBOT_WEIGHTS") or _SHIPPED)


def cache_folder() -> Path:
    """The folder of what was downloaded: CAPTIONBOT_CACHE, else ~/.cache/captionbot.

    Raises CaptionBotError where there is no home folder.
    """
    try:
        return Path(os.environ.get("CAPTIONBOT_CACHE") or Path.home() / ".cache" / "captionbot")
    except RuntimeError as error:  # a user without an entry, as in some containers
        raise CaptionBotError(
            "There is no home folder: set CAPTIONBOT_CACHE to one for downloads."
        ) from error


def _table() -> list[WeightFile]:
    """The lines of table.json, of the weights that ship where another folder has none."""
    tables = (folder / "table.json" for folder in (weights_folder(), _SHIPPED))
    table = next((table for table in tables if table.is_file()), None)
    try:
        files = [WeightFile(**line) for line in _read_json(table)] if table else []
        for file in files:
            check_fields(file)
    except TypeError as error:
        raise CaptionBotError(
            f"{table} is no table of weights ({error}): put a good copy of it there."
        ) from None
    return files


def list_cards() -> list[Path]:
    """The cards of the captioners that ship: every NAME.json with NAME.safetensors beside it."""
    return _cards_in(weights_folder())


def imported_cards() -> list[Path]:
    """The cards of the captioners that were imported under a name: CACHE/NAME/NAME.json."""
    with suppress(CaptionBotError, OSError):  # without a cache none was imported
        return [card for folder in sorted(cache_folder().glob("*/")) for card in _cards_in(folder)]
    return []


def find_card(name_or_dir: str | Path | None = None) -> Path:
    """The card of one captioner.

    name_or_dir: the name of one that ships or was imported, a folder that holds exactly one, or a card
        itself; None for the one whose card says `"default": true`, or the only one that ships.
    Raises CaptionBotError with the names there are.
    """
    cards = {card.stem: card for card in list_cards()}
    if name_or_dir is None:
        return _default(list(cards.values()))
    if not isinstance(name_or_dir, str | os.PathLike):
        raise CaptionBotError(
            f"A captioner cannot be found by {shortened(repr(name_or_dir))}: give its name, its folder or "
            "its card."
        )
    path = Path(name_or_dir)
    cards = {card.stem: card for card in imported_cards()} | cards
    if str(name_or_dir) in cards:
        return cards[str(name_or_dir)]
    if str(name_or_dir) and is_folder(path):  # to `Path` an empty name is the present folder
        inside = _cards_in(path)
        if len(inside) != 1:
            raise CaptionBotError(
                f"{path} holds {len(inside)} captioners, where a folder must hold one: "
                "a NAME.json with its NAME.safetensors."
            )
        return inside[0]
    if is_file(path) and path.suffix == ".json":
        if not is_file(_weights_of(path)):
            raise CaptionBotError(f"{path} has no {_weights_of(path).name} beside it: put its weights there.")
        return path
    raise CaptionBotError(
        f"There is no captioner '{shortened(name_or_dir)}': give one of {_listed(cards)}, "
        "a folder that holds one, or its card"
        + (f"; `python -m captionbot download {path}` fetches this one." if _is_importable(path) else ".")
    )


def _is_importable(name: Path) -> bool:
    return any(file.name == str(name) and file.importer for file in _table())


def _weights_of(card: Path) -> Path:
    return card.with_suffix(".safetensors")


def _cards_in(folder: Path) -> list[Path]:
    return sorted(card for card in folder.glob("*.json") if is_file(_weights_of(card)))


def _default(cards: Sequence[Path]) -> Path:
    if not cards:
        named = ", the folder that CAPTIONBOT_WEIGHTS names," if os.environ.get("CAPTIONBOT_WEIGHTS") else ""
        raise CaptionBotError(
            f"{weights_folder()}{named} holds no captioner, so none ships here: "
            "give the folder of one, or its card."
        )
    chosen = [card for card in cards if len(cards) == 1 or _is_default(_read_json(card))]
    if len(chosen) != 1:
        raise CaptionBotError(
            f"{weights_folder()} has {len(chosen)} captioners marked as the default, where one must be: "
            f"name one of {_listed(card.stem for card in cards)}."
        )
    return chosen[0]


def _is_default(card: Any) -> bool:
    return isinstance(card, dict) and card.get("default") is True


def _listed(names: Any) -> str:
    return ", ".join(names) or "none, as none ships here"


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise CaptionBotError(
            f"{shortened(path)} cannot be read ({shortened(error)}): put a good copy of it there."
        ) from error


@dataclass(frozen=True)
class WeightFile:
    """A line of weights/table.json: one file of someone else's weights. None stands for not known.

    name: what `download` is asked for; files that belong together share it.
    size: in bytes.
    sha256_prefix: the first hex digits, where no more is published.
    family: of a captioner; None for encoders and detectors.
    importer: the kind that `captionbot.store.importers` makes a captioner of these files with, if any.
    """

    name: str
    file: str
    url: str
    size: int | None
    sha256: str | None
    licence: str
    source: str
    note: str
    sha256_prefix: str | None = None
    family: str | None = None
    importer: str | None = None

    @property
    def path(self) -> Path:
        """Where `download` puts it in the cache."""
        return Path(self.name) / self.file

    @property
    def digest(self) -> str:
        """As much of the sha256 as is published, perhaps nothing: then a download is not verified."""
        return self.sha256 or self.sha256_prefix or ""


def weight_files(name: str | None = None) -> list[WeightFile]:
    """The files of the table, or those of one name; CaptionBotError for a name that it does not have."""
    table = _table()
    files = [entry for entry in table if name in (None, entry.name)]
    if name is not None and not files:
        names = dict.fromkeys(entry.name for entry in table)
        raise CaptionBotError(f"Unknown download {name!r}. Available: {', '.join(names) or 'none'}.")
    return files


def download(
    name: str,
    folder: Path | None = None,
    progress: Progress | None = None,
    delays: Sequence[float] = DELAYS,
) -> list[Path]:
    """FOLDER/NAME/FILE for every file of one name of the table, as of `download_file`.

    folder: by default `cache_folder()`.
    """
    return [
        download_file(
            entry.url, (folder or cache_folder()) / entry.path, entry.size, entry.digest, progress, delays
        )
        for entry in weight_files(name)
    ]


def verification(entry: WeightFile, path: Path) -> str:
    """A sentence on how far a downloaded file is known to be what its author published."""
    if entry.sha256:
        return f"{path} has the sha256 that is published for it."
    if entry.sha256_prefix:
        return f"{path} has a sha256 that begins as is published for it, with {entry.sha256_prefix}."
    return f"{path} is not verified, as no hash of it is published; its sha256 is {recorded_sha256(path)}."
