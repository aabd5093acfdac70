"""Options say what they are for where they are defined: flags, widgets and docs/options.md are made of it.

python -m tests.test_options  # writes docs/options.md anew
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from captionbot import CaptionBotError, SearchOptions
from captionbot.cli.arguments import add_model_arguments
from captionbot.fields import About, about, abouts, table_of
from captionbot.search.options import ABOUT
from training.run.config import TrainingConfig, add_flags

DOCUMENT = Path(__file__).parents[1] / "docs" / "options.md"


def document() -> str:
    return (
        "# Options\n\n"
        "Made from the code by `python -m tests.test_options`.\n\n"
        "## Search\n\n"
        "Fields of `captionbot.SearchOptions`; flags of `captionbot caption` and `captionbot explain` with "
        "`--` in front and `-` for `_`. What is left out is as the captioner's card has it.\n\n"
        f"{table_of(SearchOptions)}\n"
        "## Training\n\n"
        "Fields of a configuration in YAML, and flags of `python -m training.train` that overrule it.\n\n"
        f"{table_of(TrainingConfig)}"
    )


def test_the_document_is_made_of_the_options():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "python -m tests.test_options writes it anew"


@pytest.mark.parametrize("record", [SearchOptions, TrainingConfig])
def test_every_option_says_what_it_is_for(record):
    assert list(abouts(record)) == list(record.__dataclass_fields__)
    assert all(len(said.help) > 5 for said in abouts(record).values())


def test_flags_take_what_the_options_take():
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    flags = {action.dest: action for action in parser._actions}
    assert set(ABOUT) - {"num_return"} <= set(flags)
    given = parser.parse_args(["--beam-size", "3", "--no-evidence", "--sample", "--top-p", "0.5"])
    assert (given.beam_size, given.evidence, given.sample, given.top_p) == (3, False, True, 0.5)
    assert not hasattr(given, "seed")  # the captioner's own holds
    for name, said in ABOUT.items():
        if name in flags and said.low is not None:
            assert said.allowed in (flags[name].help or "")


def test_help_of_training_explains_every_flag(capsys):
    parser = argparse.ArgumentParser()
    add_flags(parser)
    shown = parser.format_help()
    for name, said in abouts(TrainingConfig).items():
        assert f"--{name.replace('_', '-')}" in shown
        assert said.help.split()[0] in shown
    assert "(YAML)" not in shown


@pytest.mark.parametrize(("name", "said"), [pair for pair in ABOUT.items() if pair[1].low is not None])
def test_ranges_are_those_that_are_checked(name, said):
    step = 0.001 if isinstance(getattr(SearchOptions, name), float) else 1
    for value in (said.low - step, said.high + step):
        with pytest.raises(CaptionBotError, match=f"^{name} is .*; give a .*number from"):
            SearchOptions(**{name: value})
    if said.widget:
        assert said.low <= said.widget[0] < said.widget[1] <= said.high


def test_a_field_s_allowed_values_are_read_by_people():
    said = abouts(type("Record", (), {"__dataclass_fields__": {}}))
    assert said == {}
    assert About("", 0, 1).allowed == "0 to 1"
    assert About("", 0, 2**63).allowed == "0 or more"
    assert About("", 1, 1_000_000).allowed == "1 to 1,000,000"
    assert About("", choices=("a", "b")).allowed == "a, b"
    assert About("stop here").sentence == "Stop here."
    assert about("how many", 3, low=1).metadata["about"].low == 1


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
