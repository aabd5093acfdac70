"""What holds for the project as a whole: its layers, its size, its requirements and its README."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import captionbot

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 64 * 2**20
REQUIREMENTS = ("requirements.txt", "training/requirements.txt", "tests/requirements.txt")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The files that git tracks, or has been given to track, and that are still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs git and a checkout: which files belong to the project is git's to say")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@cache
def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """All imports of a file, wherever in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(path: Path) -> set[str]:
    """The top-level names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in imports(path):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif not node.level:
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize(
    ("where", "forbidden"),
    [
        ("captionbot", {"streamlit", "gradio", "training", "benchmarks"}),
        ("training", {"streamlit", "gradio"}),
    ],
)
def test_layers_do_not_look_up(where, forbidden):
    toolkits = [ROOT / "captionbot" / "pages" / name for name in ("streamlit", "gradio")]
    files = [
        path
        for path in sorted((ROOT / where).rglob("*.py"))
        if not any(path.is_relative_to(folder) for folder in toolkits)
    ]
    assert files
    assert {str(path): found for path in files if (found := imported(path) & forbidden)} == {}


def test_no_modules_import_each_other():
    """By any way round, be it within a function or for types alone."""
    paths = [
        path for name in ("captionbot", "training", "benchmarks") for path in (ROOT / name).rglob("*.py")
    ]
    names = {
        path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in paths
    }
    known, graph = set(names.values()), {}
    for path, name in names.items():
        asked = set()
        for node in imports(path):
            if isinstance(node, ast.Import):
                asked.update(alias.name for alias in node.names)
            else:
                wholes = {f"{node.module}.{alias.name}": node.module for alias in node.names}
                asked.update(whole if whole in known else module for whole, module in wholes.items())
        graph[name] = asked & known - {name}
    assert len(graph) > 200
    TopologicalSorter(graph).prepare()  # CycleError names the modules of a circle


def test_importing_captionbot_is_light():
    script = (
        "import sys, captionbot; print(sorted({'torch', 'matplotlib', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_importing_captionbot_changes_nothing_of_its_host():
    """A library leaves the environment, warnings and forks of the program that imports it alone."""
    script = (
        "import os, sys, warnings, numpy, PIL.Image, torch, torch.func, torch.fx  # they have filters too\n"
        "def hook(**given): hooks.append(sys._getframe(1).f_globals['__name__'])\n"
        "hooks, os.register_at_fork = [], hook\n"
        "def host(): return dict(os.environ), list(warnings.filters), torch.get_num_threads()\n"
        "before = host()\n"
        "import captionbot.captioner, captionbot.images.load, captionbot.backends.compile\n"
        "own = {'captionbot.images.decode'}  # begins its own count anew, and touches nothing else\n"
        "print(before == host(), any('captionbot' in name for name in hooks if name not in own))"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "False"]


def test_tracked_files_stay_small(tracked):
    sizes = {path: path.stat().st_size for path in tracked}
    largest = sorted(sizes, key=sizes.__getitem__)[-3:]
    assert sum(sizes.values()) < MAX_BYTES, f"the largest are {', '.join(map(str, largest))}"


def test_tracked_files_name_no_machine_and_no_package_index(tracked):
    # Built from parts, so that this file does not find itself.
    secrets = re.compile(
        "|".join([r"(?<![.\w])/" + "work/", "--(extra-)?" + "index-url", r"files\.python" + "hosted"])
    )
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in tracked
        if path.suffix != ".safetensors" and (match := secrets.search(path.read_text("utf-8", "replace")))
    }
    assert found == {}


def requirements(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith(("#", "-r"))]


@pytest.mark.parametrize(
    "requirement", [r for name in REQUIREMENTS for r in requirements(name)], ids=lambda r: r.name
)
def test_requirements_admit_what_is_installed(requirement):
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        pytest.skip(f"{requirement.name} is not installed, so this run says nothing about it")
    assert requirement.specifier.contains(installed.partition("+")[0], prereleases=True)


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def extras(*names: str) -> list[Requirement]:
    """What the extras of an installation need, but for other extras of this package."""
    listed = [Requirement(line) for name in names for line in PROJECT["optional-dependencies"][name]]
    return [requirement for requirement in listed if requirement.name != PROJECT["name"]]


@pytest.mark.parametrize(
    ("file", "needed"),
    [
        (
            "requirements.txt",
            [
                *map(Requirement, PROJECT["dependencies"]),
                *extras("streamlit", "gradio", "detect", "transformers"),
            ],
        ),
        ("training/requirements.txt", extras("train")),
    ],
)
def test_requirements_for_hosts_are_those_of_the_package(file, needed):
    assert sorted(map(str, requirements(file))) == sorted(map(str, needed))


def test_the_cloud_gets_the_page_and_pytorch_without_cuda_for_every_python():
    assert "captionbot.pages.streamlit.app import main" in (ROOT / "hosting/streamlit_app.py").read_text()
    usual = {r.name: r.specifier for r in requirements("requirements.txt")}
    of_wheels: dict[str, set[str]] = {}
    for requirement in requirements("hosting/requirements.txt"):
        name, build, python, *_ = requirement.url.rpartition("/")[2].replace("%2B", "+").split("-")
        assert name == requirement.name
        assert build.endswith("+cpu")
        assert usual[name].contains(build.removesuffix("+cpu"))
        release = f"3.{python.removeprefix('cp3')}"
        assert str(requirement.marker) == f'python_version == "{release}"'
        of_wheels.setdefault(name, set()).add(release)
    supported = {f"3.{minor}" for minor in range(8, 20)}
    supported = {release for release in supported if release in SpecifierSet(PROJECT["requires-python"])}
    assert of_wheels == {"torch": supported, "torchvision": supported}


@pytest.fixture(scope="module")
def front_matter() -> dict[str, object]:
    """The block of YAML that makes the repository a Hugging Face Space."""
    start, block, _ = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert not start
    return yaml.safe_load(block)


def test_the_space_runs_the_gradio_page(front_matter):
    assert front_matter["sdk"] == "gradio"
    assert front_matter["app_file"] == "gradio_app.py"
    assert (ROOT / "gradio_app.py").is_file()
    (gradio,) = (r for r in requirements("requirements.txt") if r.name == "gradio")
    assert gradio.specifier.contains(str(front_matter["sdk_version"]))


def test_the_space_s_python_is_one_that_the_project_supports(front_matter):
    supported = SpecifierSet(PROJECT["requires-python"])
    assert supported.contains(str(front_matter["python_version"]))


def test_files_that_the_front_matter_names_exist(front_matter):
    named = [value for key, value in front_matter.items() if key.endswith("_file") or key == "thumbnail"]
    missing = [name for name in named if "://" not in str(name) and not (ROOT / str(name)).is_file()]
    assert missing == []


@pytest.mark.parametrize(
    "target", ["app", "gradio", "test", "test-slow", "lint", "format", "docs", "clean", "help"]
)
def test_make_knows_its_targets(target):
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in listed
    subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)


def test_make_app_takes_torch_from_the_index_that_it_is_given():
    lines = subprocess.run(
        ["make", "-n", "app", "VENV=nowhere", "TORCH_INDEX=https://example.org/cpu"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    (first, *_) = (line for line in lines if " pip install " in line)
    assert first.startswith('PIP_INDEX_URL="https://example.org/cpu" ')
    assert "torch(vision)" in first


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT / "docs"))
)
def test_links_of_the_docs_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_version_is_everywhere_the_same():
    released = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert released
    assert captionbot.__version__ == released[1] == citation["version"]
