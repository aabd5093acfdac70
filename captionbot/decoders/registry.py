"""All families of decoders: a module of this package that has a `FAMILY` is found by itself."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType

from captionbot.decoders import hub
from captionbot.decoders.family import Family
from captionbot.decoders.packing import Packers
from captionbot.errors import CaptionBotError, shortened

_families: dict[str, Family] = {}
FAMILIES: Mapping[str, Family] = MappingProxyType(_families)
"""By their kinds, in the order of the alphabet."""


def register(family: Family) -> None:
    """Make a family known by its kind; CaptionBotError where another one has that kind."""
    if _families.get(family.kind, family) is not family:
        raise CaptionBotError(f"There is a family '{family.kind}' already; choose another kind.")
    _families[family.kind] = family


def family_of(kind: str) -> Family:
    """The family of a kind; CaptionBotError with those that there are."""
    if kind not in [*FAMILIES]:  # a card may have any value there
        raise CaptionBotError(
            f"'{shortened(kind, 40)}' is not a kind of decoder; choose one of {', '.join(FAMILIES)}."
        )
    return FAMILIES[kind]


def packers() -> Packers:
    """How modules of all families are packed, where a backend needs to be told."""
    of_families = (family.packers for family in FAMILIES.values())
    return {kind: packer for packers in (hub.PACKERS, *of_families) for kind, packer in packers.items()}


def _find() -> None:
    """Register what the package's own modules have."""
    modules = iter_modules([str(Path(__file__).parent)], f"{__package__}.")
    found = [getattr(import_module(module.name), "FAMILY", None) for module in modules]
    for family in sorted(filter(None, found), key=lambda family: family.kind):
        register(family)


_find()
