"""The table of all captioners says what each of them gives, and forgets what is no longer true."""

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from tiny import build_tiny_captioner

from captionbot import Captioner, load_image
from captionbot.store import card as cards
from training.evaluation import leaderboard
from training.metrics import score

CAPTIONS = {
    "a.jpg": ["a dog runs on the beach", "the dog plays"],
    "b.jpg": ["a man in the snow", "a man in white"],
    "c.jpg": ["a child jumps"],
    "d.jpg": ["a woman with a red ball", "the woman plays with a ball"],
}
PAGE = f"Before.\n\n{leaderboard.START}\nold\n{leaderboard.END}\n\nAfter.\n"


@pytest.fixture
def data(tmp_path):
    """Four photos and captions.csv."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i, name in enumerate(CAPTIONS):
        image = Image.new("RGB", (80, 60), (60 * i, 200 - 50 * i, 90))
        ImageDraw.Draw(image).rectangle((10 * i, 10, 10 * i + 30, 50), fill="white")
        image.save(folder / name)
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption", "split"])
        rows.writerows([name, text, "val"] for name, texts in CAPTIONS.items() for text in texts)
    return folder


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Two captioners that ship, "one" and "two", the second with its encoder in a file of its own."""
    folder = tmp_path / "weights"
    build_tiny_captioner(folder, "one")
    card, encoder, decoder = cards.load(build_tiny_captioner(folder, "two", default=False))
    cards.save_part(folder / "encoder.safetensors", encoder, "int8")
    for parameter in decoder.parameters():
        parameter.data += 0.3
    cards.save(folder, card, encoder, decoder, "int8", "encoder.safetensors")
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def run(data, tmp_path, monkeypatch):
    """Runs the command in a folder of its own, away from the project's pages; gives the exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leaderboard, "DOCS", ())
    flags = ["--data", str(data), "--no-meteor", "--device", "cpu"]
    return lambda *arguments: leaderboard.main([*map(str, arguments), *flags])


def test_rows_are_what_the_captioners_give_end_to_end(data, weights, run, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert run("--docs", page) == 0
    rows = json.loads((weights / "leaderboard.json").read_text())
    assert {(row["name"], row["beam_size"]) for row in rows} == {
        (n, b) for n in ("one", "two") for b in (1, 5)
    }
    for row in rows:
        captioner = Captioner.from_pretrained(row["name"], device="cpu")
        found = captioner.caption([load_image(data / n) for n in CAPTIONS], beam_size=row["beam_size"])
        said = {name: f.captions[0].text for name, f in zip(CAPTIONS, found, strict=True)}
        expected = score(said, CAPTIONS, meteor=False, spice=False)
        assert {name: row[name] for name in expected} == pytest.approx(expected)
        assert row["intervals"].keys() == expected.keys()
        assert all(low <= row[name] <= high for name, (low, high) in row["intervals"].items())
        assert row["images"] == 4
        assert row["images_per_second"] > 0
        assert row["parameters"] == captioner.card.parameters
        assert row["size_bytes"] == (weights / f"{row['name']}.safetensors").stat().st_size
        shared = (weights / "encoder.safetensors").stat().st_size
        assert row["shared_bytes"] == (shared if row["name"] == "two" else 0)
    text = page.read_text()
    assert text.startswith(f"Before.\n\n{leaderboard.START}\n4 photos of the split `val`")
    assert text.endswith(f" |\n{leaderboard.END}\n\nAfter.\n")
    assert "old" not in text
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert len({len(line) for line in table}) == 1
    (cider,) = [i for i, title in enumerate(table[0]) if title == "CIDEr"]
    assert [[line[0], line[1], line[cider]] for line in table[2:]] == [
        [row["name"], "greedy" if row["beam_size"] == 1 else "beam 5", f"{row['CIDEr']:.3f}"] for row in rows
    ]
    best = [max(row["CIDEr"] for row in rows[i : i + 2]) for i in (0, 2)]
    assert best == sorted(best, reverse=True)
    assert text.count("`encoder.safetensors`") == 1
    assert capsys.readouterr().out.strip() in text


def test_captioners_that_are_not_run_keep_their_rows_while_they_are_what_they_were(weights, run, capsys):
    assert run() == 0
    before = json.loads((weights / "leaderboard.json").read_text())
    assert run("--models", "two", "--cards") == 0
    after = json.loads((weights / "leaderboard.json").read_text())
    assert [r for r in after if r["name"] == "one"] == [r for r in before if r["name"] == "one"]
    assert len(after) == 4
    (beam,) = [row for row in after if (row["name"], row["beam_size"]) == ("two", 5)]
    scores = json.loads((weights / "two.json").read_text())["scores"]
    assert scores == {name: beam[name] for name in scores}
    assert scores.keys() >= {"split", "images", "beam_size", "CIDEr"}
    assert json.loads((weights / "one.json").read_text())["scores"] == {}
    changed = json.loads((weights / "one.json").read_text())
    changed["search"]["length_penalty"] = 0.1
    (weights / "one.json").write_text(json.dumps(changed))
    capsys.readouterr()
    assert run("--models", "two") == 0
    assert {row["name"] for row in json.loads((weights / "leaderboard.json").read_text())} == {"two"}
    assert "one, beam 5, is dropped" in capsys.readouterr().err


def test_a_try_writes_only_what_it_is_asked_to(weights, run, tmp_path, capsys, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    monkeypatch.setattr(leaderboard, "DOCS", (page,))
    assert run("--limit", 2, "--models", "one") == 0
    assert capsys.readouterr().out.startswith("2 photos")
    assert not (weights / "leaderboard.json").exists()
    out = tmp_path / "try" / "board.json"
    assert run("--limit", 2, "--models", "one", "--out", out) == 0
    assert [row["images"] for row in json.loads(out.read_text())] == [2, 2]
    assert page.read_text() == PAGE
    page.write_text("no place for a table")
    assert run("--models", "one") == 0
    assert page.read_text() == "no place for a table"


def test_data_sets_of_a_mixture_stand_side_by_side(data, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leaderboard, "DOCS", ())
    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (80, 60), "red").save(more / "e.jpg")
    (more / "captions.csv").write_text("image,caption,split\ne.jpg,a red ball,val\n")
    mixture = tmp_path / "both.mixture.yaml"
    mixture.write_text(f"- {{name: dogs, data: {data}}}\n- {{name: meals, data: {more}}}\n")
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    flags = ["--data", str(mixture), "--no-meteor", "--device", "cpu", "--models", "one", "--cards"]
    assert leaderboard.main([*flags, "--docs", str(page)]) == 0
    rows = json.loads((weights / "leaderboard.json").read_text())
    captioner = Captioner.from_pretrained("one", device="cpu")
    for row in rows:
        found = captioner.caption(
            [load_image(data / n) for n in CAPTIONS] + [load_image(more / "e.jpg")],
            beam_size=row["beam_size"],
        )
        *said, last = [f.captions[0].text for f in found]
        first = score(dict(zip(CAPTIONS, said, strict=True)), CAPTIONS, meteor=False, spice=False)
        assert {name: row[name] for name in first} == pytest.approx(first)
        second = score({"e.jpg": last}, {"e.jpg": ["a red ball"]}, meteor=False, spice=False)
        meals = row["others"]["meals"]
        assert {name: meals[name] for name in second} == pytest.approx(second)
        assert (row["data"], row["images"], meals["images"]) == ("dogs", 4, 1)
    text = page.read_text()
    assert "4 photos of dogs and 1 of meals of the split `val`" in text
    head = next(line for line in text.splitlines() if line.startswith("| captioner"))
    scores = "dogs BLEU-4 | dogs CIDEr | meals BLEU-4 | meals CIDEr"
    assert head == f"| captioner | search | {scores} | million parameters | MiB | images a second |"
    (beam,) = [row for row in rows if row["beam_size"] == 5]
    scores = json.loads((weights / "one.json").read_text())["scores"]
    assert scores["CIDEr"] == beam["CIDEr"]
    assert scores["meals"] == {"split": "val", "images": 1, "beam_size": 5} | {
        name: beam["others"]["meals"][name] for name in second
    }
    before = json.loads((weights / "leaderboard.json").read_text())
    assert (
        leaderboard.main(["--data", str(mixture), "--no-meteor", "--device", "cpu", "--models", "two"]) == 0
    )
    after = json.loads((weights / "leaderboard.json").read_text())
    assert [row for row in after if row["name"] == "one"] == before


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--models", "three"], "There is no captioner 'three': give one of one, two"),
        (["--split", "test"], "has no split 'test'; choose one of val"),
        (["--out", "page.json"], "page.json is not a leaderboard"),
        (["--limit", "-1"], "limit is -1; give 0 or more"),
    ],
)
def test_mistakes_are_one_sentence(flags, sentence, weights, run, tmp_path, capsys):
    (tmp_path / "page.json").write_text('{"CIDEr": 0.5}')
    assert run(*flags) == 2
    assert sentence in capsys.readouterr().err


def test_the_list_of_promises_is_whole_and_names_files_that_exist():
    root = Path(__file__).parents[2]
    page = (root / "docs" / "design" / "promises.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:tests|training)/[\w/.-]+\.(?:py|yaml))`", page))
    assert len(named) > 20
    assert [file for file in named if not (root / file).is_file()] == []
    families = page.split("\n## ")[1:6]
    numbers = [re.findall(r"^\| \[[x~ ]\] \| (\d+)\. ", family, re.MULTILINE) for family in families]
    assert numbers == [[str(i + 1) for i in range(count)] for count in (10, 11, 9, 11, 29)]
