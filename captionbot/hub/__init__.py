"""Captioners of the Hugging Face Hub: one line a family, one module each.

Of `transformers` only model classes are used, to hold the weights and to see the photo; words are
`captionbot.decoders.hub`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.hub import blip, florence2, git, smolvlm, vit_gpt2
from captionbot.hub.family import HubFamily

__all__ = ["FAMILIES", "HubFamily", "family_of", "family_of_config"]

FAMILIES: dict[str, HubFamily] = {
    module.FAMILY.kind: module.FAMILY for module in (blip, git, vit_gpt2, florence2, smolvlm)
}


def family_of(kind: Any) -> HubFamily:
    """The family of a kind; CaptionBotError with those that there are."""
    if kind not in [*FAMILIES]:
        raise CaptionBotError(
            f"'{shortened(kind, 40)}' is no family of the Hub; choose one of {', '.join(FAMILIES)}."
        )
    return FAMILIES[kind]


def family_of_config(config: Any) -> HubFamily:
    """The family of a config.json; CaptionBotError where it is of none, or asks for code of its own."""
    known = ", ".join(dict.fromkeys(family.model_type for family in FAMILIES.values()))
    if not isinstance(config, Mapping):
        raise CaptionBotError("Its config.json holds no configuration: give a model of the Hugging Face Hub.")
    if any("auto_map" in part for part in (config, *config.values()) if isinstance(part, Mapping)):
        raise CaptionBotError(
            "Its config.json asks for code of its own (auto_map), which is never run here: give a model of a "
            f"family that transformers has itself ({known})."
        )
    kind = config.get("model_type")
    for family in FAMILIES.values():
        try:
            if family.model_type == kind and family.applies(config):
                return family
        except (KeyError, TypeError, AttributeError):
            continue
    raise CaptionBotError(
        f"Its config.json is of the kind '{shortened(kind, 40)}', where those of {known} can be imported: "
        "give one of these."
    )
