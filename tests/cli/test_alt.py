"""`captionbot alt`: photos in, a review out, edited by hand, and put to use."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import build_tiny_captioner

from captionbot.images.metadata import described


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_captioner(tmp_path_factory.mktemp("weights")).parent


@pytest.fixture
def run(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command `alt`, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(run, "alt")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """blue.jpg, broken.jpg, sub/green.jpg, sub/red.png."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("blue.jpg", "sub/green.jpg", "sub/red.png"):
        Image.new("RGB", (60, 40), Path(name).stem).save(folder / name)
    (folder / "broken.jpg").write_text("not a photo")
    return folder


def rows(path: str = "alt-text.csv") -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def edit(**texts: str) -> None:
    """A person in a spreadsheet: new texts by the names of photos."""
    table = rows()
    for row in table:
        row["alt"] = texts.get(Path(row["image"]).stem, row["alt"])
    with Path("alt-text.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def test_one_caption_a_photo_and_what_is_edited_stays(run, photos):
    code, out, err = run("photos", "--num-return", "3", "--out", "alt-text.csv", "--out", "all.jsonl")
    assert code == 0
    assert "4 photos: 3 to review, 0 accepted or edited, 1 could not be read." in out
    assert err.count("broken.jpg") == 1
    table = rows()
    assert [Path(row["image"]).name for row in table] == ["blue.jpg", "broken.jpg", "green.jpg", "red.png"]
    for row in table:
        assert bool(row["alt"]) is not bool(row["error"])
        assert len(row["alt"]) <= 125
    records = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    assert [len(record.get("captions", ())) for record in records] == [3, 0, 3, 3]

    edit(green="A person wrote this.")
    Image.new("RGB", (60, 40), "white").save(photos / "broken.jpg")  # mended
    Image.new("RGB", (60, 40), "black").save(photos / "new.png")
    code, out, err = run("photos", "--out", "alt-text.csv", "--out", "page.html")
    assert (code, err) == (0, "")
    assert "5 photos: 4 to review, 1 accepted or edited, 0 could not be read." in out
    after = {Path(row["image"]).stem: row["alt"] for row in rows()}
    assert list(after) == ["blue", "green", "red", "broken", "new"]
    assert after["green"] == "A person wrote this."
    assert after["blue"] == table[0]["alt"]
    page = Path("page.html").read_text()
    assert '<img src="photos/sub/green.jpg" alt="A person wrote this."' in page

    # Edits of another file that is named beside it are not lost either.
    review = Path("alt-text.csv").read_bytes()
    lines = Path("all.jsonl").read_text().replace('"alt": "', '"alt": "Surely: ', 1)
    Path("all.jsonl").write_text(lines)
    assert run("photos", "--out", "alt-text.csv", "--out", "all.jsonl").code == 0
    assert Path("alt-text.csv").read_bytes() != review
    assert [row["alt"][:7] for row in rows() if row["image"].endswith("blue.jpg")][-1] == "Surely:"


def test_an_edited_review_is_put_to_use_beside_photos_that_moved(run, photos):
    run("photos")
    edit(blue="Mine.", red="")
    photos.rename("moved")
    before = {path: path.read_bytes() for path in Path("moved").rglob("*.*")}
    ways = ("--txt", "--xmp", "--txt-folder", "texts", "--out", "copy.jsonl")
    code, _, err = run("moved", "--from", "alt-text.csv", *ways)
    assert (code, err) == (0, "")
    assert Path("moved/blue.txt").read_text() == Path("texts/photos/blue.txt").read_text() == "Mine.\n"
    assert described(Path("moved/blue.jpg.xmp").read_bytes()) == "Mine."
    assert not Path("moved/sub/red.png.xmp").exists()  # a picture that says nothing
    assert {path: path.read_bytes() for path in before} == before

    edit(blue="Yours.")
    code, _, err = run("moved", "--from", "alt-text.csv", "--xmp", "--txt")
    assert code == 0
    assert err.count("--replace overwrites it") == 2
    assert Path("moved/blue.txt").read_text() == "Mine.\n"
    assert run("moved", "--from", "alt-text.csv", "--xmp", "--txt", "--replace", "--accepted").err == ""
    assert described(Path("moved/blue.jpg.xmp").read_bytes()) == "Yours."


@pytest.mark.skipif(importlib.util.find_spec("pyexiv2") is None, reason="needs pyexiv2")
def test_descriptions_in_the_photos_themselves(run, photos):
    run("photos")
    edit(blue="Mine.")
    before = (photos / "sub" / "green.jpg").read_bytes()
    assert run("--from", "alt-text.csv", "--embed", "--accepted").err == ""
    assert b"Mine." in (photos / "blue.jpg").read_bytes()
    assert (photos / "sub" / "green.jpg").read_bytes() == before
    code, _, err = run("--from", "alt-text.csv", "--embed")
    assert (code, err) == (0, "")
    assert (photos / "sub" / "green.jpg").read_bytes() != before


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "Name photos"),
        (["photos", "--out", "x.txt"], "name a file that ends with .csv, .jsonl, .html"),
        (["--from", "alt-text.csv"], "--from writes what a review says"),
        (["--from", "gone.csv", "--txt"], "gone.csv does not exist"),
        (["--from", "photos/blue.jpg", "--txt"], "is no review file"),
    ],
)
def test_what_does_not_fit_is_one_line(run, photos, args, reason):
    code, _, err = run(*args)
    assert code == 2
    assert reason in err
    assert err.count("\n") == 1
    assert not Path("alt-text.csv").exists()


def test_without_the_library_photos_are_not_changed(run, photos, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("captionbot.extras.find_spec", lambda name: None if name == "pyexiv2" else find(name))
    code, _, err = run("photos", "--embed")
    assert code == 2
    assert "pip install 'captionbot[metadata]'" in err
