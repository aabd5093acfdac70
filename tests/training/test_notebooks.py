"""The notebooks run as they are, on small data, and their recorded outputs are small and of no machine."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from captionbot.pages.samples import sample_photos

nbformat = pytest.importorskip("nbformat", reason="needs nbformat, nbclient and ipykernel")
pytest.importorskip("nbclient", reason="needs nbformat, nbclient and ipykernel")

FOLDER = Path(__file__).parents[2] / "training" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL = {  # what replaces the cell with the tag "parameters"
    "1-train-show-attend-tell": 'DATA = "../shared/data/flickr8k"\nRUN = "{out}/run"\nEPOCHS = 2',
    "2-look-inside-a-caption": "",
    "3-evaluate-and-compare": (
        'DATA = "../shared/data/flickr8k"\nMODEL = "show-attend-tell"\nOUT = "{out}/scores"\nLIMIT = 4'
    ),
    "4-caption-and-train-on-your-own": 'FOLDER = "{out}/photos"\nRUN = "{out}/run"\nEPOCHS = 1',
}


def test_all_are_here():
    assert [path.stem for path in NOTEBOOKS] == sorted(SMALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_recorded_outputs_are_a_clean_run_of_no_machine(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert not re.findall(
        r"(?<![\w.])/(?:home|root|tmp|usr|mnt|opt|Users)/", path.read_text(encoding="utf-8")
    )


def test_each_finds_the_project_or_clones_it(tmp_path, monkeypatch):
    """In a folder of it, as an installed checkout, and elsewhere by the address of a repository."""
    cells = {path: nbformat.read(path, 4).cells[1].source for path in NOTEBOOKS}
    (cell,) = set(cells.values())
    monkeypatch.setattr(sys, "path", [*sys.path])

    def root_from(folder):
        monkeypatch.chdir(folder)
        exec(cell, {})
        return Path.cwd()

    root = FOLDER.parents[1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert root_from(FOLDER) == root
    with pytest.raises(SystemExit, match="give its address in REPOSITORY"):
        root_from(tmp_path)
    repository = tmp_path / "elsewhere" / "repository"
    (repository / "training" / "run").mkdir(parents=True)
    (repository / "training" / "run" / "train.py").touch()
    (repository / "training" / "requirements.txt").touch()
    git = ["git", "-C", str(repository), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "One"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setenv("CAPTIONBOT_REPOSITORY", repository.as_uri())
    cloned = root_from(tmp_path)
    assert cloned == tmp_path.resolve() / "captionbot-project"
    monkeypatch.delenv("CAPTIONBOT_REPOSITORY")
    assert root_from(tmp_path) == cloned  # which is there now
    spec = SimpleNamespace(origin=str(root / "captionbot" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert root_from(tmp_path / "elsewhere") == root


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_samples_that_it_takes_are_there(path):
    source = "\n".join(cell.source for cell in nbformat.read(path, 4).cells)
    assert set(re.findall(r'sample_photos\(\)\["(.+?)"\]', source)) <= set(sample_photos())


def test_notebooks_stay_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 1.5 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, request):
    from nbclient import NotebookClient

    if "shared/" in SMALL[path.stem]:
        request.getfixturevalue("shared")
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()) and SMALL[path.stem]:
            cell.source = SMALL[path.stem].format(out=tmp_path)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}})
    client.execute()
