"""The wheel, installed beside the core dependencies alone and used from another folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.request import urlopen
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import captionbot
from captionbot import Captioner, load_image
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.judgement import in_brief
from tests.golden.regenerate import CAPTIONS, FOLDER

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="needs hatchling, which builds the wheel")
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the command of a virtual environment with the wheel, what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    try:
        venv.create(folder / "venv", symlinks=os.name != "nt")
        (site,) = _site_packages(folder / "venv")
        for name in _needed(wheel):
            _link(name, site)
    except OSError as error:  # as on Windows without the right to make links
        pytest.skip(f"needs links: {error}")
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = shutil.which("python", path=str(scripts))
    install = ["--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, timeout=300)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "CAPTIONBOT_", "VIRTUAL_ENV"))
    }
    environment |= {"CAPTIONBOT_PRECISION": "float32", "CAPTIONBOT_CACHE": str(folder / "cache")}

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which(program, path=str(scripts)), *arguments],
            cwd=FOLDER,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def _site_packages(environment: Path) -> Iterator[Path]:
    yield from environment.glob("[Ll]ib/python*/site-packages")
    yield from environment.glob("Lib/site-packages")


def _needed(wheel: Path) -> set[str]:
    """The distributions that the wheel requires without an extra, and that these require in turn."""
    with ZipFile(wheel) as archive:
        (file,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        header = archive.read(file).decode().partition("\n\n")[0].splitlines()
    left = [line.removeprefix("Requires-Dist: ") for line in header if line.startswith("Requires-Dist: ")]
    found: set[str] = set()
    while left:
        requirement = Requirement(left.pop())
        if requirement.name in found or (
            requirement.marker and not requirement.marker.evaluate({"extra": ""})
        ):
            continue
        try:
            left += distribution(requirement.name).requires or []
        except PackageNotFoundError:  # optional on this system; what is missed shows below
            continue
        found.add(requirement.name)
    return found


def _link(name: str, site: Path) -> None:
    """A distribution's modules, as links to those that are installed here."""
    there = distribution(name)
    for top in {file.parts[0] for file in there.files or () if file.parts[0] not in ("..", "__pycache__")}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(there.locate_file(top))))


def test_nothing_but_captionbot_is_installed(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"captionbot"}
    assert "captionbot/py.typed" in names


def test_the_wheel_has_the_default_captioner_alone(wheel: Path) -> None:
    default = Card.load(find_card())
    with ZipFile(wheel) as archive:
        names = {
            name.removeprefix("captionbot/_weights/") for name in archive.namelist() if "_weights/" in name
        }
    shared = {default.shared["file"]} if default.shared else set()
    assert names - {"leaderboard.json", "faithfulness.json"} == {
        *(f"{default.name}.json", f"{default.name}.safetensors", "table.json"),
        *shared,
    }


def test_it_captions_a_photo_as_the_checkout_does(run: Run) -> None:
    done = run("captionbot", "caption", "dog-on-snow.png")
    assert done.stderr == ""
    golden = json.loads(CAPTIONS.read_text(encoding="utf-8"))
    (found,) = Captioner.from_pretrained(device="cpu").caption(load_image(FOLDER / "dog-on-snow.png"))
    assert found.captions[0].text == golden["dog-on-snow.png"]
    judged = in_brief(found.captions[0].judgement)
    assert done.stdout == f"dog-on-snow.png\t{golden['dog-on-snow.png']}\t{judged}\n"


def test_it_draws_where_it_looked(run: Run, tmp_path: Path) -> None:
    done = run("captionbot", "explain", "dog-on-snow.png", "--out", str(tmp_path / "words.png"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")


def test_it_lists_its_captioner_and_what_downloads(run: Run) -> None:
    models = json.loads(run("captionbot", "models", "--format", "json").stdout)
    assert [model["name"] for model in models if model["ships"]] == [find_card().stem]
    assert "captionbot-v2-flickr30k" in {model["name"] for model in models}


@pytest.mark.parametrize(("program", "arguments"), [("captionbot", ()), ("python", ("-m", "captionbot"))])
def test_it_calls_itself_as_it_was_called(run: Run, program: str, arguments: tuple[str, ...]) -> None:
    said = run(program, *arguments, "--help").stdout
    assert said.startswith(f"usage: {' '.join([program, *arguments])} [-h]")
    assert run(program, *arguments, "--version").stdout == f"captionbot {captionbot.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("app",), "streamlit"),
        (("app", "--gradio"), "gradio"),
        (("caption", "dog-on-snow.png", "--engine", "ray", "--out", "shards"), "ray"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(run: Run, arguments: tuple[str, ...], extra: str) -> None:
    done = run("captionbot", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"pip install 'captionbot[{extra}]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "path", "page"),
    [
        ((), "_stcore/health", "ok"),
        pytest.param(("--gradio",), "", "CaptionBot", marks=pytest.mark.slow),
    ],
)
def test_app_starts_the_pages_from_another_folder(
    wheel: Path, tmp_path: Path, arguments: tuple[str, ...], path: str, page: str
) -> None:
    """Beside the packages of this environment, in which the pages can run."""
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "captionbot", "app", f"--port={port}", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        said = _answer(f"http://127.0.0.1:{port}/{path}", server)
    finally:
        server.terminate()
        complaints = server.communicate(timeout=60)[1]
    assert page in said, complaints.decode()


def _answer(url: str, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 300
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            time.sleep(0.2)
    return ""
