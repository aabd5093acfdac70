"""Every command in the documentation is one that its program understands: none of them is run here."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from pathlib import Path
from string import Template

import pytest

from captionbot.cli.main import main as captionbot

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
IN_TEXT = re.compile(r"`(python -m [^`\n]+|captionbot [^`\n]+)`")
LACKING = "the following arguments are required"


class Parsed(BaseException):
    """Arguments were understood; BaseException, so that no command takes it for a mistake of its own."""


def shell_lines(text: str) -> list[str]:
    """The commands of a page's shell blocks, with the variables that the block sets in their places."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        variables: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines():
            line = Template(line.partition(" #")[0].strip()).safe_substitute(variables)
            if assigned := re.fullmatch(r"([A-Z_0-9]+)=(\"[^\"]*\"|\S+)", line):
                variables[assigned[1]] = assigned[2].strip('"')
            elif line:
                found.append(line)
    return found


def commands(page: Path) -> dict[str, bool]:
    """Commands of ours on a page, and whether each is whole: in a sentence may stand a part of one."""
    text = page.read_text(encoding="utf-8")
    lines = [(line, True) for line in shell_lines(text)] + [(part, False) for part in IN_TEXT.findall(text)]
    found: dict[str, bool] = {}
    for line, whole in lines:
        line = re.sub(r"^(time |torchrun (--\S+( \d+)? )*|([A-Z_]+=\S+ )+)", "", line)
        line = re.sub(r"^-m ", "python -m ", line)
        ours = re.match(r"python -m (captionbot|training|tests|benchmarks)\b|captionbot |make ", line)
        summary = " [-" in line or re.match(r"python -m \S*\.\.\.", line)  # of what is allowed
        if ours and not summary:
            found[line.removeprefix("python -m ")] = whole
    return found


def fault(line: str, whole: bool, capsys: pytest.CaptureFixture[str]) -> str | None:
    """What is wrong with a command, or None."""
    program, *arguments = shlex.split(line)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return None if arguments[0] in targets else "no such target"
    if program.startswith("tests."):  # which run without arguments
        return None if importlib.util.find_spec(program) else "no such module"
    if program == "captionbot":
        main = captionbot
    else:
        package = (ROOT / program.replace(".", "/")).is_dir()
        main = importlib.import_module(f"{program}.__main__" if package else program).main
    try:
        main(arguments)
    except Parsed:
        return None
    except SystemExit as done:
        said = capsys.readouterr().err
        return None if done.code == 0 or (LACKING in said and not whole) else said
    return "it does not read its arguments by argparse"


def test_the_pages_have_commands():
    found = [line.split()[0] for page in PAGES for line in commands(page)]
    assert len(found) > 80
    assert {"make", "captionbot", "training.train", "training.export", "benchmarks.pages"} <= {*found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_understood(monkeypatch, capsys, page):
    real = argparse.ArgumentParser.parse_args

    def parse_args(self, *given):
        real(self, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    faults = {line: fault(line, whole, capsys) for line, whole in commands(page).items()}
    assert not {line: wrong for line, wrong in faults.items() if wrong}
