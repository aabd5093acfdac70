"""Every command in the documentation is one that its program understands; those that take seconds are run.

`RUN` says which are: on small photos and an untrained captioner that stands in for the default one. All
others are parsed alone, as they need hours, a network or a GPU; those of train-your-own.md run in
tests/training/test_train_your_own.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from string import Template

import pytest
from tiny import build_tiny_captioner

from captionbot import load_image
from captionbot.cli.main import main as captionbot
from captionbot.pages.samples import sample_photos

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
PAGES.append(DOCS / "design" / "training-log.md")
IN_TEXT = re.compile(r"`(python -m [^`\n]+|captionbot [^`\n]+)`")
LACKING = "the following arguments are required"
RUN = {
    "README": [r"captionbot caption photo\.jpg"],
    "CONTRIBUTING": [r"captionbot caption PHOTO --format json"],
    "alt-text": [r"captionbot alt holiday/", r"captionbot alt --from alt-text\.csv --xmp"],
    "collections": [r"captionbot caption (photos/ more\.tar|thousand/) .*"],
    "confidence": [r"captionbot caption .*"],
    "evaluation": [r"training\.(evaluate|compare) .*"],
    "hub": [r"captionbot models"],
    "install": [r"captionbot caption photo\.jpg", r"captionbot models", r"training\.train --help"],
    "training": [r"training\.ensemble .*"],
    "use": [r"captionbot (caption|alt|explain|models)\b.*"],
}
STANDS_FOR = {  # in the folder that the commands are run in
    "PHOTO": "photo.jpg",
    "NAME": "show-attend-tell",
    "DIR": "my-photos",
    "--annotations FILE": "--annotations my-photos/captions.csv",
    "--predictions FILE": "--predictions runs/a/predictions.json",
}


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


def main_of(program: str) -> Callable[[list[str]], int]:
    if program == "captionbot":
        return captionbot
    package = (ROOT / program.replace(".", "/")).is_dir()
    return importlib.import_module(f"{program}.__main__" if package else program).main


def fault(line: str, whole: bool, capsys: pytest.CaptureFixture[str]) -> str | None:
    """What is wrong with a command, or None."""
    program, *arguments = shlex.split(line)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return None if arguments[0] in targets else "no such target"
    if program.startswith("tests."):  # which run without arguments
        return None if importlib.util.find_spec(program) else "no such module"
    try:
        main_of(program)(arguments)
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


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """What the commands name: photos by themselves, in folders and archives, and captions of some."""
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("photos", "holiday", "thousand", "my-photos"):
        (folder / name).mkdir()
        for number, path in enumerate([*sample_photos().values()][:3]):
            load_image(path).resize((64, 48)).save(folder / name / f"{number}.jpg")
    (folder / "photo.jpg").write_bytes((folder / "photos" / "0.jpg").read_bytes())
    with tarfile.open(folder / "more.tar", "w") as tar, zipfile.ZipFile(folder / "photos.zip", "w") as packed:
        tar.add(folder / "photos" / "1.jpg", "more.jpg")
        packed.write(folder / "photos" / "2.jpg", "packed.jpg")
    rows = [f"{number}.jpg,a dog plays on the grass,val" for number in range(3)]
    (folder / "my-photos" / "captions.csv").write_text("\n".join(["image,caption,split", *rows]) + "\n")
    for place in ("weights", "top-run", "other-run"):
        build_tiny_captioner(folder / place, "show-attend-tell")
    return folder


def files_in(folder: Path) -> set[tuple[Path, int]]:
    """The files in a folder, each with the time when it was written."""
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem in RUN], ids=lambda page: page.stem)
def test_commands_that_take_seconds_do_what_they_say(workplace, monkeypatch, capsys, page):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(workplace / "weights"))
    monkeypatch.setattr(
        "training.metrics.java.shutil.which", lambda name: None
    )  # Java takes seconds to start
    known = commands(page)
    for pattern in RUN[page.stem]:
        lines = [line for line in known if re.fullmatch(pattern, line)]
        assert lines, f"{pattern} is no command of {page.name} any more"
        for line in lines:
            for name, meant in STANDS_FOR.items():
                line = line.replace(name, meant)
            program, *arguments = shlex.split(line)
            before = files_in(workplace)
            try:
                code = main_of(program)(arguments)
            except SystemExit as done:  # of --help
                code = done.code
            said = capsys.readouterr()
            assert code == 0, f"{line}: {said.err}"
            written = files_in(workplace) - before
            assert said.out or written, f"{line} says nothing and writes nothing"
            if "--out" in arguments:
                out = workplace / arguments[arguments.index("--out") + 1]
                assert any(out in (path, *path.parents) for path, _ in written), line
