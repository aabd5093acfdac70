"""Which captioners there are, and the one place that finds one by what a person calls it.

A name is looked for in `PLACES`, in their order. A place is a function from the name to a card, or None where
it has none of that name; another kind of name, as of a hub, is another place.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.files import cache_folder
from captionbot.images.archives import is_file, is_folder
from captionbot.store.folders import read_listing, weights_folder
from captionbot.store.weights import importable, listed

DEFAULT = "CAPTIONBOT_MODEL"
"""Names the captioner that is used where none is asked for."""
RENAMED = {
    "show-attend-tell-flickr8k": "show-attend-tell",
    "top-down-flickr8k": "top-down",
    "from-scratch-transformer-flickr8k": "from-scratch-transformer",
    "gpt2-prefix-flickr8k": "gpt2-prefix",
    "show-and-tell-gru-flickr8k": "show-and-tell",
}
_LOG = logging.getLogger(__name__)


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

    name_or_dir: the name of one that ships, was imported, or is in the user's cache of the Hugging Face Hub;
        a folder that holds exactly one, or a card itself; None for the one that CAPTIONBOT_MODEL names, else
        that whose card says `"default": true`, or the only one that ships.
    Raises CaptionBotError with the names there are.
    """
    if name_or_dir is None:
        named = os.environ.get(DEFAULT)
        return find_card(named) if named else _default(list_cards())
    if not isinstance(name_or_dir, str | os.PathLike):
        raise CaptionBotError(
            f"A captioner cannot be found by {shortened(repr(name_or_dir))}: give its name, its folder or "
            "its card."
        )
    name = str(name_or_dir)
    for place in PLACES:
        if card := place(name):
            return card
    names = dict.fromkeys(card.stem for card in (*imported_cards(), *list_cards()))
    fetched = f"; `python -m captionbot download {name}` fetches this one." if importable(name) else "."
    raise CaptionBotError(
        f"There is no captioner '{shortened(name)}': give one of {listed(names)}, a folder that holds one, "
        f"or its card{fetched}"
    )


def _shipped(name: str) -> Path | None:
    return _called(name, list_cards())


def _imported(name: str) -> Path | None:
    return _called(name, imported_cards())


def _in_folder(name: str) -> Path | None:
    """The only captioner of a folder, as a run of training leaves one."""
    folder = Path(name)
    if not name or not is_folder(folder):  # to `Path` an empty name is the present folder
        return None
    inside = _cards_in(folder)
    if len(inside) != 1:
        raise CaptionBotError(
            f"{folder} holds {len(inside)} captioners, where a folder must hold one: "
            "a NAME.json with its NAME.safetensors."
        )
    return inside[0]


def _card_itself(name: str) -> Path | None:
    path = Path(name)
    if not is_file(path) or path.suffix != ".json":
        return None
    if not is_file(_weights_of(path)):
        raise CaptionBotError(f"{path} has no {_weights_of(path).name} beside it: put its weights there.")
    return path


def _in_hub_cache(name: str) -> Path | None:
    """One of the table's captioners of the Hub, which other programs of the user fetched already."""
    if not importable(name, "hub"):
        return None
    from captionbot.store.importers.hub import cached_hub

    return cached_hub(name)


def _renamed(name: str) -> Path | None:
    """What ships in the place of a captioner of an earlier version, which a script may still name."""
    card = _shipped(RENAMED.get(name, ""))
    if card:
        _LOG.warning("%s has been replaced; using %s.", name, card.stem)
    return card


PLACES: Sequence[Callable[[str], Path | None]] = (
    _shipped,
    _imported,
    _in_folder,
    _card_itself,
    _in_hub_cache,
    _renamed,
)


def _called(name: str, cards: Iterable[Path]) -> Path | None:
    return next((card for card in cards if card.stem == name), None)


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
    chosen = [card for card in cards if len(cards) == 1 or _is_default(read_listing(card))]
    if len(chosen) != 1:
        raise CaptionBotError(
            f"{weights_folder()} has {len(chosen)} captioners marked as the default, where one must be: "
            f"name one of {listed(card.stem for card in cards)}."
        )
    return chosen[0]


def _is_default(card: Any) -> bool:
    return isinstance(card, dict) and card.get("default") is True
