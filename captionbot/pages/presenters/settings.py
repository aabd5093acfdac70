"""What can be asked of a captioner: the texts and ranges of the widgets, by the names of the options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from captionbot.pages.uploads import MAX_MEGABYTES
from captionbot.search.options import ABOUT as OPTIONS
from captionbot.search.options import SearchOptions

BEAM_OPTIONS = ("beam_size",)
SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "seed")
COMMON_OPTIONS = ("min_length", "max_length", "length_penalty", "no_repeat_ngram_size")
SEARCHING = (*BEAM_OPTIONS, *COMMON_OPTIONS)
"""What a captioner's card says of its search, and people may change."""
WITHOUT_WIDGETS = ("repeat_nouns", "evidence")


@dataclass(frozen=True)
class Setting:
    """A widget: its label and help; of numbers the range and step, and what they are at first."""

    label: str
    help: str = ""
    low: float = 0
    high: float = 1
    step: float = 1
    value: Any = None
    example: str = ""


CAPTIONER = Setting("Captioner")
PREFIX = Setting("Start the caption with…", "The model finishes your sentence.", example="two children")
BEGINNING = Setting("Beginnings", "What the model is given is shown apart from what it chooses.")
BANNED = Setting("Words to avoid", "Separated by commas or spaces.", example="man, shirt")
TITLE = "Settings"
EXPERT = "Expert"
EXPERT_HELP = "Shows probabilities, scores and every option of the search."
DIFFERENT = Setting("Captions that differ", "Several thoughts instead of one in other words (diverse beams).")
LENGTH = Setting("Length in words", low=1, high=40)


def _of(name: str, value: Any = None) -> Setting:
    """The widget of a search option, as the option says of itself; value: at first, None for the card's."""
    said = OPTIONS[name]
    more = "" if said.sentence == f"{said.label}." else said.sentence
    low, high, step = said.widget or (0, 1, 1)
    return Setting(said.label, more, low, high, step, value)


SETTINGS = {
    "beam_size": _of("beam_size"),
    "captions": _of("num_return", 3),
    "min_length": _of("min_length"),
    "max_length": _of("max_length"),
    "length_penalty": _of("length_penalty"),
    "no_repeat_ngram_size": _of("no_repeat_ngram_size"),
    "sample": _of("sample", False),
    "temperature": _of("temperature", 1.0),
    "top_k": _of("top_k", 0),
    "top_p": _of("top_p", 0.9),
    "seed": _of("seed", 0),
}
DIVERSITY = 1.0  # nats that a group pays for a word that another just took
FEW = "captions"
"""What everybody is offered; the others are for experts, under `MORE`."""
MORE = "More options"
GENERATE, DRAW_AGAIN = "Caption again", "Draw again"
OWN = "A captioner of your own"
OWN_FILES = "Card (.json) and weights (.safetensors), or a .zip of both"
OWN_HELP = (
    f"As `python -m training.train` writes them, {MAX_MEGABYTES} MB at most. They are kept in memory, "
    "for this session only."
)
TIPS_TITLE, ABOUT = "Tips", "About this captioner"
TIPS = """
- People, dogs, sports, beaches, streets and snow are what it has seen most.
- One clear subject in daylight works best; screenshots, text, food and close-ups work poorly.
- It counts badly, guesses colours in poor light, and names nobody.
- Not happy? Ask for more captions, or click a word and say something else.
"""


def using(title: str) -> str:
    return f"Using “{title}”. It is available only in this session."


def first(name: str, usual: SearchOptions) -> Any:
    """What a setting is at first: as the captioner's card has it, within the range of its widget."""
    setting = SETTINGS[name]
    return min(getattr(usual, name), setting.high) if setting.value is None else setting.value


def search(given: dict[str, Any], usual: SearchOptions, different: bool = False) -> SearchOptions:
    """The search that was asked for: of the settings those that have a use in it.

    usual: of the captioner's card, for what has no widget.
    different: each caption from a group of beams of its own, which avoids the words of the others.
    """
    names = COMMON_OPTIONS + (SAMPLING_OPTIONS if given["sample"] else BEAM_OPTIONS)
    captions = given["captions"] if given["sample"] else min(given["captions"], given["beam_size"])
    options = {name: given[name] for name in names}
    options |= {name: getattr(usual, name) for name in WITHOUT_WIDGETS}
    if different and not given["sample"] and given["captions"] > 1:
        groups = captions = given["captions"]
        options |= {"beam_size": 2 * groups, "num_groups": groups, "diversity_penalty": DIVERSITY}
    return SearchOptions(sample=given["sample"], num_return=captions, **options)
