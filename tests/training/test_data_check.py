"""`python -m training.data check`, on photos made wrong one by one."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from captionbot.images.load import load_image
from training.data import Example, open_images
from training.data.__main__ import main
from training.data.check import check, fingerprint
from training.data.formats import load_dataset


def photo(seed, size=(48, 40)):
    """A smooth picture of its own for each seed."""
    values = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    lines = ["image,caption,split"]
    for i in range(6):
        photo(i).save(tmp_path / f"{i}.png")
        lines += [f"{i}.png,A dog number {i} runs .,{'val' if i == 5 else 'train'}", f"{i}.png,a dog,train"]
    lines[-1] = "5.png,a dog,val"
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    return tmp_path


def report(folder, capsys, *flags):
    code = main(["check", str(folder), "--json", *flags])
    return code, json.loads(capsys.readouterr().out)


def test_a_clean_data_set(folder, capsys):
    code, found = report(folder, capsys)
    assert code == 0
    assert found["problems"] == {}
    assert found["splits"] == {
        "train": {"images": 5, "captions": 10, "words": 35},
        "val": {"images": 1, "captions": 2, "words": 7},
    }
    assert found["lengths"] == {"2": 6, "5": 6}
    assert found["vocabulary"] == {"1": 9, "2": 4, "5": 4}  # a dog number runs, and five numbers
    assert main(["check", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "train: 5 images, 10 captions, 35 words\n" in text
    assert "\n   5        6 ########################################\n" in text
    assert text.endswith("no problems found\n")


def change(folder, line, text):
    path = folder / "captions.csv"
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines))


def break_photo(folder):
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:300])


@pytest.mark.parametrize(
    ("harm", "kind", "line"),
    [
        (break_photo, "broken images", "2.png: the image is a damaged image"),
        (lambda f: (f / "3.png").unlink(), "missing images", "3.png"),
        (lambda f: photo(9).save(f / "9.png"), "images without captions", "9.png"),
        (lambda f: change(f, 2, '0.png," .",train'), "empty captions", "0.png, 1 times"),
        (lambda f: change(f, 1, "0.png,A DOG .,train"), "duplicate captions", "0.png, 2 times: a dog"),
        (
            lambda f: photo(1).save(f / "5.png", compress_level=0),
            "the same photo in two splits",
            "1.png (train), 5.png (val)",
        ),
        (
            lambda f: photo(1).save(f / "4.png", compress_level=0),
            "the same photo in one split",
            "1.png (train), 4.png (train)",
        ),
        (
            lambda f: photo(1, (96, 80)).save(f / "5.png"),
            "photos that look alike in two splits",
            "1.png (train), 5.png (val)",
        ),
    ],
)
def test_each_problem_is_found_and_no_other(folder, capsys, harm, kind, line):
    harm(folder)
    code, found = report(folder, capsys)
    assert code == 1
    assert list(found["problems"]) == [kind]
    assert len(found["problems"][kind]) == 1 and found["problems"][kind][0].startswith(line)
    assert main(["check", str(folder)]) == 1
    assert f"{kind}: 1\n  {line}" in capsys.readouterr().out


def test_photos_elsewhere_and_none_at_all(folder, capsys):
    captions = folder / "captions.csv"
    assert report(captions, capsys)[0] == 0
    (folder / "photos").mkdir()
    for path in folder.glob("*.png"):
        path.rename(folder / "photos" / path.name)
    (folder / "photos" / "1.png").unlink()
    code, found = report(captions, capsys, "--images", str(folder / "photos"))
    assert (code, found["problems"]) == (1, {"missing images": ["1.png"]})
    assert report(captions, capsys, "--captions-only")[0] == 0


def test_many_problems_are_cut_short_in_text_alone(folder, capsys):
    for i in range(30):
        (folder / f"x{i:02}.png").write_bytes(b"no photo")
    assert main(["check", str(folder)]) == 1
    text = capsys.readouterr().out
    assert "broken images: 30\n" in text and "  and 20 more, which --json shows" in text
    assert len(report(folder, capsys)[1]["problems"]["broken images"]) == 30


def test_errors_are_one_sentence(tmp_path, capsys):
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert "There is no data set at" in error and error.count("\n") == 1


def test_a_thousand_copies_of_one_placeholder_are_one_line(tmp_path):
    photo(3).save(tmp_path / "p.png")
    data = (tmp_path / "p.png").read_bytes()
    store = {f"{i:04}.png": data for i in range(1000)}

    class Store(dict):
        names = dict.keys

        def find(self, name):
            return name

    found = check([Example(name, ("a dog",), "train") for name in store], Store(store))
    (line,) = found.problems["the same photo in one split"]
    assert line.count(" (train)") == 1000


def again(image, **changes):
    """The photo, saved once more as a JPEG of another size and quality."""
    file = io.BytesIO()
    image.resize(changes.get("size", image.size)).save(file, "JPEG", quality=changes.get("quality", 95))
    return Image.open(file)


@pytest.mark.parametrize(
    "changes", [{"quality": 60}, {"size": (224, 224)}, {"size": (150, 120), "quality": 70}]
)
def test_real_photos_are_known_again_and_told_apart(shared, tmp_path, changes):
    paths = sorted((shared / "data" / "photos").glob("*.jpg"))[:12]
    for path in paths:
        image = load_image(path)
        image.save(tmp_path / f"{path.stem}.png", compress_level=0)
        again(image, **changes).save(tmp_path / f"{path.stem}-again.png", compress_level=0)
    (tmp_path / "captions.json").write_text(
        json.dumps({path.name: "a photo" for path in tmp_path.glob("*.png")})
    )
    found = check(load_dataset(tmp_path), open_images(tmp_path), threads=2).problems
    pairs = {
        tuple(sorted(name.split(" ")[0] for name in line.split(", ")))
        for lines in found.values()
        for line in lines
    }
    assert pairs == {(f"{path.stem}-again.png", f"{path.stem}.png") for path in paths}
    assert all(kind.startswith("photos that look alike") for kind in found)


def test_the_print_of_a_photo_depends_on_its_pixels_alone():
    one, other = photo(1), photo(2)
    assert fingerprint(one).digest == fingerprint(one.copy()).digest != fingerprint(other).digest
    flat = Image.new("RGB", (8, 2)), Image.new("RGB", (2, 8))
    assert fingerprint(flat[0]).digest != fingerprint(flat[1]).digest
