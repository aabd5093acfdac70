"""What can be asked of a captioner: the texts and ranges of the widgets, by the names of the options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from captionbot.pages.uploads import MAX_MEGABYTES
from captionbot.search.options import SearchOptions

BEAM_OPTIONS = ("beam_size",)
SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "seed")
COMMON_OPTIONS = ("min_length", "max_length", "length_penalty", "no_repeat_ngram_size")
SEARCHING = (*BEAM_OPTIONS, *COMMON_OPTIONS)
"""What a captioner's card says of its search."""


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
BANNED = Setting("Words to avoid", "Separated by commas or spaces.", example="man, shirt")
LENGTH = Setting("Length in words", low=1, high=40)
SETTINGS = {
    "beam_size": Setting(
        "Beam size",
        "Hypotheses kept at each step. 1 takes the likeliest word each time; more finds likelier sentences "
        "and takes longer.",
        1,
        10,
    ),
    "captions": Setting("Captions", "How many to show, best first; at most the beam size.", 1, 10, value=3),
    "min_length": Setting("Words at least", low=LENGTH.low, high=LENGTH.high),
    "max_length": Setting("Words at most", low=LENGTH.low, high=LENGTH.high),
    "length_penalty": Setting(
        "Length penalty",
        "0 ranks sentences by probability alone, which favours short ones; more favours long ones.",
        0,
        2,
        0.1,
    ),
    "no_repeat_ngram_size": Setting(
        "No-repeat n-gram size", "No run of so many words is said twice; 0 allows it.", 0, 5
    ),
    "sample": Setting(
        "Sampling", "Draw words by chance instead of searching for the likeliest sentence.", value=False
    ),
    "temperature": Setting("Temperature", "Lower is safer, higher is wilder.", 0.1, 2, 0.01, 1.0),
    "top_k": Setting("Top k", "Draw from the k likeliest words; 0 is all.", 0, 100, value=0),
    "top_p": Setting(
        "Top p", "Draw from the likeliest words that hold this probability.", 0.05, 1, 0.01, 0.9
    ),
    "seed": Setting("Seed", "The same seed draws the same sentences.", 0, 99_999, value=0),
}
MORE = "More options"
GENERATE, DRAW_AGAIN = "Generate captions", "Draw again"
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
- Not happy? Raise the beam size, ask for more captions, or start the sentence yourself.
"""


def using(title: str) -> str:
    return f"Using “{title}”. It is available only in this session."


def first(name: str, usual: SearchOptions) -> Any:
    """What a setting is at first: as the captioner's card has it, within the range of its widget."""
    setting = SETTINGS[name]
    return min(getattr(usual, name), setting.high) if setting.value is None else setting.value


def search(given: dict[str, Any]) -> SearchOptions:
    """The search that was asked for: of the settings those that have a use in it."""
    names = COMMON_OPTIONS + (SAMPLING_OPTIONS if given["sample"] else BEAM_OPTIONS)
    captions = given["captions"] if given["sample"] else min(given["captions"], given["beam_size"])
    return SearchOptions(sample=given["sample"], num_return=captions, **{name: given[name] for name in names})
