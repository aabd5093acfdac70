"""What was measured of captioners, written by training and read for the pages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import build_tiny_captioner

from captionbot.captioner import Captioner
from captionbot.errors import CaptionBotError
from captionbot.pages.results import Gallery, Shot, gallery_file, heatmaps_true, leaderboard, written_of
from training.evaluation import faithfulness as command
from training.evaluation import gallery as gallery_command
from training.metrics import measure


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    build_tiny_captioner(folder, "one")
    build_tiny_captioner(folder, "two", default=False)
    card = json.loads((folder / "two.json").read_text())
    (folder / "two.json").write_text(json.dumps(card | {"search": {"beam_size": 2, "max_length": 4}}))
    return folder


@pytest.fixture(autouse=True)
def here(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(weights))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.fromarray(random.integers(0, 255, (40, 60, 3), np.uint8)).save(folder / name)
    return folder


def test_heatmaps_over_a_folder(
    photos: Path, weights: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = weights / "faithfulness.json"
    for name in ("two", "one", "one"):  # the last takes the place of the one before
        flags = ["--images", str(photos), "--captioner", name, "--limit", "2", "--out", str(out)]
        assert command.main([*flags, "--device", "cpu"]) == 0
    assert [row["name"] for row in json.loads(out.read_text())] == ["two", "one"]
    found = heatmaps_true("one")
    assert found is not None
    assert found.photos == 2
    everything = found.of("all")
    assert everything is not None
    captioner = Captioner.from_pretrained("one", "cpu")
    images = [Image.open(photos / name).convert("RGB") for name in ("a.jpg", "b.jpg")]
    words = sum(len(found.captions[0].words) for found in captioner.caption(images))
    assert everything.words == found.patches.of / 20 == words
    assert f"| all | {words} | {everything.true} |" in capsys.readouterr().out

    other = json.loads(out.read_text())
    other[1]["sha256"] = "of other weights"
    out.write_text(json.dumps(other))
    assert heatmaps_true("one") is None
    out.unlink()
    assert heatmaps_true("two") is None


def test_a_run_goes_on_and_several_captioners_are_those_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--images", str(photos), "--device", "cpu", "--copies", "20", "--limit", "2"]
    alone = []
    for name in ("one", "two"):
        assert command.main([*flags, "--captioner", name, "--keep", str(tmp_path)]) == 0
        alone.append(capsys.readouterr().out.split("\n\n")[-1])
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 4
    before = [path.stat().st_mtime_ns for path in kept]
    assert command.main([*flags, "--captioner", "all", "--keep", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(table.strip() in out for table in alone)
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert command.main(["--images", "nowhere"]) == 2
    assert "no images at nowhere" in capsys.readouterr().err


def test_outputs_are_looked_at_before_the_work(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.csv").write_text("image,caption,split\na.jpg,A dog.,val\n")
    (tmp_path / "other.json").write_text("[5]")
    flags = ["--images", str(photos), "--device", "cpu"]
    assert command.main([*flags, "--out", str(tmp_path / "other.json")]) == 2
    assert "other.json is no file of such figures" in capsys.readouterr().err
    flags += ["--annotations", str(tmp_path / "captions.csv")]
    assert gallery_command.main([*flags, "--out", str(tmp_path / "captions.csv")]) == 2
    assert "captions.csv is read and would be replaced" in capsys.readouterr().err


@pytest.fixture(scope="module")
def written(photos: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    annotations = {
        "a.jpg": ["a dog runs", "the dog"],
        "b.jpg": ["a man jumps in snow"],
        "c.jpg": ["a child with a ball"],
    }
    lines = (f"{name}#{i}\t{text}" for name, texts in annotations.items() for i, text in enumerate(texts))
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    (folder / "Flickr_8k.devImages.txt").write_text("\n".join(annotations) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONBOT_WEIGHTS", str(weights))
        flags = ["--images", str(photos), "--device", "cpu"]
        out = folder / "val.json"
        code = gallery_command.main(
            ["--annotations", str(folder / "Flickr8k.token.txt"), "--out", str(out), *flags]
        )
    assert code == 0
    return out


def test_the_gallery_holds_every_caption_with_its_score(written: Path, photos: Path) -> None:
    found = Gallery.load(written)
    assert found.images == photos
    assert set(found.captioners) == {"one", "two"}
    assert [shot.photo for shot in found.shots] == ["a.jpg", "b.jpg", "c.jpg"]
    assert found.shots[0].references == ("a dog runs", "the dog")
    for name in found.captioners:
        captions = {shot.photo: shot.captions[name] for shot in found.shots}
        references = {shot.photo: shot.references for shot in found.shots}
        each = measure(captions, references, meteor=False, spice=False).each()["CIDEr"]
        np.testing.assert_allclose([shot.scores[name] for shot in found.shots], each, atol=1e-4)


def shot(photo: str, score: float, *captions: str) -> Shot:
    names = "xyz"[: len(captions)]
    return Shot(photo, ("a",), dict(zip(names, captions, strict=True)), dict.fromkeys(names, score))


def test_best_worst_and_most_different() -> None:
    shots = (
        shot("1", 0.5, "a dog runs", "a dog runs"),
        shot("2", 0.9, "a dog runs", "a dog sits"),
        shot("3", 0.1, "a dog", "two men"),
    )
    found = Gallery(Path(), "val", ("x", "y"), shots)
    assert [shot.photo for shot in found.chosen("Best", "x", 2)] == ["2", "1"]
    assert [shot.photo for shot in found.chosen("Worst", "x", 2)] == ["3", "1"]
    assert [shot.photo for shot in found.chosen("Most different", "x", 3)] == ["3", "2", "1"]
    assert [shot.difference for shot in shots] == [0, 0.5, 1]
    assert shot("4", 1, "alone").difference == 0


@pytest.mark.parametrize("text", ["", "[]", '{"captioners": ["x"]}'])
def test_what_is_no_gallery_gets_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "val.json").write_text(text)
    with pytest.raises(CaptionBotError, match=r"val\.json is not what python -m training\.gallery writes"):
        Gallery.load(tmp_path / "val.json")
    with pytest.raises(CaptionBotError, match="cannot be read: No such file"):
        Gallery.load(tmp_path / "none.json")


def test_the_environment_names_the_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTIONBOT_VAL", raising=False)
    assert gallery_file() is None
    monkeypatch.setenv("CAPTIONBOT_VAL", "some.json")
    assert gallery_file() == Path("some.json")


def test_what_people_wrote_of_a_photo_is_known_by_its_name_and_its_look(
    written: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.open(photos / "a.jpg").convert("RGB")
    monkeypatch.delenv("CAPTIONBOT_VAL", raising=False)
    assert written_of("a.jpg", image) == ()
    monkeypatch.setenv("CAPTIONBOT_VAL", str(written))
    assert written_of("a.jpg", image) == ("a dog runs", "the dog")
    assert written_of("d.jpg", image) == ()
    assert written_of("b.jpg", image) == ()  # a photo of another's name
    assert written_of("a.jpg", image.rotate(90, expand=True)) == ()


def test_the_leaderboard_is_of_captioners_that_are_here(weights: Path) -> None:
    assert leaderboard() == []
    card = json.loads((weights / "two.json").read_text())
    (weights / "two.json").write_text(json.dumps(card | {"scores": {"CIDEr": 0.4}}))
    lines = [{"name": "one", "CIDEr": 0.3}, {"name": "gone", "CIDEr": 0.9}]
    (weights / "leaderboard.json").write_text(json.dumps(lines))
    assert [(row["name"], row["CIDEr"]) for row in leaderboard()] == [("one", 0.3), ("two", 0.4)]
