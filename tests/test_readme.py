"""What README.md and docs/use.md tell people to type first works, on the captioner that ships.

All that they tell them to type is run in test_doc_commands.py, on a small captioner.
"""

import re
import shlex
import zipfile
from pathlib import Path

import pytest

from captionbot.cli.main import main
from captionbot.pages.samples import sample_photos

ROOT = Path(__file__).parents[1]
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "docs" / "use.md")}
README = "\n".join(PAGES.values())
COMMANDS = dict.fromkeys(
    re.findall(r"^python -m captionbot (caption photo\.jpg|explain .*?)(?:\s+#.*)?$", README, re.MULTILINE)
)
CODE = [
    block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "gradio_client" not in block
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A photo, a folder and an archive by the names that the README uses."""
    folder = tmp_path_factory.mktemp("readme")
    photo = next(iter(sample_photos().values())).read_bytes()
    (folder / "photo.jpg").write_bytes(photo)
    (folder / "holiday").mkdir()
    (folder / "holiday" / "one.jpg").write_bytes(photo)
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        archive.writestr("two.jpg", photo)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command, here, capsys):
    code = main(shlex.split(command))
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.err == ""
    if "--out" in command:
        out = here / shlex.split(command)[shlex.split(command).index("--out") + 1]
        assert out.stat().st_size > 100
    else:
        assert said.out.strip()


@pytest.mark.parametrize("code", CODE)
def test_code(code, here, capsys):
    exec(code, {})
    assert re.match(r"0\.\d\d [a-z]+ [a-z]+", capsys.readouterr().out)


def test_there_is_something_to_run():
    assert len(COMMANDS) == 2
    assert CODE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!http)([^)#]+)", PAGES[page])
    assert targets
    assert [target for target in targets if not (page.parent / target).is_file()] == []


def test_the_readme_is_one_screen():
    lines = PAGES[ROOT / "README.md"].split("---\n", 2)[2].strip().splitlines()
    assert len(lines) < 25
