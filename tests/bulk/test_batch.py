"""Many photos: in order, a bounded number of them at once, and none twice after a kill."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import build_tiny_captioner

from captionbot import CaptionBotError, Captioner
from captionbot.bulk.folder import caption_each, load_ahead, zip_of_texts
from captionbot.bulk.records import Result, written
from captionbot.cli.main import main
from captionbot.images.load import ImageSource, Preprocessing, count_images, find_images, squash
from captionbot.progress import line, progress
from captionbot.types import Captioned

ROOT = Path(__file__).parents[2]
WANTED = Preprocessing((64, 64), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_captioner(tmp_path_factory.mktemp("weights")).parent


def noise(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def broken() -> Image.Image:
    raise CaptionBotError("It is broken.")


def sources(count: int) -> list[ImageSource]:
    """Photos that differ in width too; the fourth is broken."""
    return [
        ImageSource(str(i), broken if i == 3 else (lambda at_least=None, i=i: noise(i, (80 + i, 60))))
        for i in range(count)
    ]


def said(results: list[Result]) -> list[tuple[str, str, int]]:
    """Names, captions, and the width of the image that each is about."""
    return [
        (name, str(found), 0)
        if isinstance(found, CaptionBotError)
        else (name, found.captions[0].text, found.captions[0].image_size.width)
        for name, found in results
    ]


@pytest.mark.parametrize("workers", [1, 3])
def test_side_by_side_gives_what_one_at_a_time_gives(weights, workers):
    captioner = Captioner.from_pretrained(weights, device="cpu")
    plain = list(caption_each(captioner, load_ahead(sources(11), 1), 1, {}))
    assert [(name, width) for name, _, width in said(plain)] == [
        (str(i), i != 3 and 80 + i) for i in range(11)
    ]
    assert said(plain)[3][1] == "It is broken."
    images = load_ahead(sources(11), 4)
    assert said(list(caption_each(captioner, images, 3, {}, workers))) == said(plain)


def test_no_more_images_are_held_than_a_few_batches(weights):
    """Every image that was loaded is let go of: the most alive at once does not grow with their number."""
    captioner = Captioner.from_pretrained(weights, device="cpu")
    alive = most = 0
    lock = threading.RLock()  # an image may be let go of by the thread that holds it

    def count_down() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def load(at_least: int | None = None) -> Image.Image:
        nonlocal alive, most
        image = noise(0)
        weakref.finalize(image, count_down)
        with lock:
            alive += 1
            most = max(most, alive)
        return image

    batch, ahead, workers, count = 4, 4, 2, 120
    images = load_ahead((ImageSource(str(i), load) for i in range(count)), ahead)
    assert sum(1 for _ in caption_each(captioner, images, batch, {}, workers)) == count
    # Loaded ahead and being handed over; under way and waiting; the batch that is gathered.
    assert batch <= most <= ahead + 2 + (workers + 2) * batch < count


def test_sources_are_not_read_far_ahead(weights):
    captioner = Captioner.from_pretrained(weights, device="cpu")
    asked = 0

    def counted():
        nonlocal asked
        for source in sources(200):
            asked += 1
            yield source

    results = caption_each(captioner, load_ahead(counted(), 4), 4, {}, 2)
    next(results)
    assert asked <= 4 * 3 + 5
    results.close()


def test_a_large_jpeg_is_decoded_small_and_hardly_differs():
    large = noise(5, (3000, 2000))
    file = io.BytesIO()
    large.save(file, "JPEG", quality=90)
    seen = []

    def load(at_least: int | None = None) -> Image.Image:
        image = Image.open(io.BytesIO(file.getvalue()))
        if at_least:
            image.draft(None, (at_least, at_least))
        seen.append(image.size)
        return image.convert("RGB")

    source = ImageSource("large", load)
    ((_, small),) = load_ahead([source], 1, WANTED)
    assert small.size == (64, 64)
    assert 128 <= min(seen[0]) < 512
    exact = squash(source.load(), WANTED).astype(int)
    assert np.abs(np.asarray(small).astype(int) - exact).mean() < 1


def test_images_are_counted_as_they_are_found(tmp_path):
    import zipfile

    (tmp_path / "sub").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("a.png", "sub/b.png"):
        noise(1).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("a.png", "b.png", "notes.txt", ".hidden.png"):
            archive.write(tmp_path / "a.png", name)
    paths = [str(tmp_path / name) for name in ("sub", "two.zip", "empty", "a.png", "gone.png")]
    assert count_images(paths) == len(list(find_images(paths))) == 6
    (tmp_path / "three.tar").touch()
    assert count_images([*paths, str(tmp_path / "three.tar")]) is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((120, 1000, 24.1), "120 of 1,000 photos, 24.1 a second, 0:37 left"),
        ((1200, 1_000_000, 25.0), "1,200 of 1,000,000 photos, 25.0 a second, 11:05:52 left"),
        ((5, None, 2.0), "5 photos, 2.0 a second"),
        ((5, 9, 0.0), "5 of 9 photos, 0.0 a second"),
    ],
)
def test_a_line_of_progress(arguments, expected):
    assert line(*arguments) == expected


def test_progress_passes_on_all_and_says_what_an_earlier_run_did():
    out, clock = io.StringIO(), iter(range(100))
    assert list(progress(range(4), 10, 6, out, lambda: next(clock))) == [0, 1, 2, 3]
    lines = out.getvalue().split("\r\033[K")
    assert lines[1] == "7 of 10 photos, 1.0 a second, 0:03 left"
    assert lines[-1] == ""  # nothing is left on the terminal


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(30):
        noise(i).save(folder / f"{i:02}.jpg")
    (folder / "15-bad.jpg").write_text("no photo")
    return folder


def command(photos: Path, out: Path, *more: str) -> list[str]:
    return ["caption", str(photos), "--out", str(out), "--batch-size", "2", "--device", "cpu", *more]


def parts(text: str, exactly: bool = True) -> list[object]:
    """What stands between the numbers, and the numbers: other batches may round the last digit otherwise."""
    between = re.split(r"(-?\d+\.\d+)", text)
    return [
        part if i % 2 == 0 else float(part) if exactly else pytest.approx(float(part), abs=1e-3)
        for i, part in enumerate(between)
    ]


@pytest.mark.parametrize("format", ["jsonl", pytest.param("csv", marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_where_it_was(weights, photos, tmp_path, monkeypatch, format):
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(weights))
    whole, torn = tmp_path / f"whole.{format}", tmp_path / f"torn.{format}"
    shape = ("--format", format, "--num-return", "2")
    assert main(command(photos, whole, *shape)) == 0
    run = subprocess.Popen(
        [sys.executable, "-m", "captionbot", *command(photos, torn, *shape)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None and (not torn.exists() or torn.read_bytes().count(b"\n") < 8):
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL, "it was done before it could be killed"
    before = torn.read_bytes()
    assert 8 <= before.count(b"\n") < whole.read_bytes().count(b"\n")
    torn.write_bytes(before[:-7])  # as a full disk leaves it
    assert main(command(photos, torn, *shape, "--resume")) == 0
    assert parts(torn.read_text()) == parts(whole.read_text(), exactly=False)
    before = torn.read_bytes()
    assert main(command(photos, torn, *shape, "--resume")) == 0  # nothing is left to do
    assert torn.read_bytes() == before


RECORD = {"image": "a.jpg", "model": "tiny", "captions": []}
LINE = json.dumps(RECORD).encode() + b"\n"
HEADER = b"image,caption,log_prob,confidence,rank,error,model\n"
UNNAMED = (
    b"image,caption,log_prob,confidence,rank,error\n"  # of files that do not say whose captions they hold
)


@pytest.mark.parametrize(
    ("data", "count", "whole"),
    [
        (b"", 0, 0),
        (LINE, 1, len(LINE)),
        (2 * LINE, 2, 2 * len(LINE)),
        (LINE + LINE[:5], 1, len(LINE)),
        (LINE + LINE[:-1], 1, len(LINE)),
        (LINE + b'{"image": "b.jpg", "error": "x"}\n', 1, len(LINE) + 33),
        (LINE + b"\0\0\0", 1, len(LINE)),
    ],
)
def test_what_jsonl_holds(tmp_path, data, count, whole):
    path = tmp_path / "captions.jsonl"
    path.write_bytes(data)
    names, end = written(path, "tiny")
    assert (names["a.jpg"], end) == (count, whole)


@pytest.mark.parametrize(
    ("data", "names", "whole"),
    [
        (b"", {}, 0),
        (HEADER[:9], {}, 0),
        (HEADER, {}, len(HEADER)),
        (HEADER + b"a,x,-1,0.5,1,,tiny\na,y,-2,0.4,2,,tiny\n", {"a": 1}, len(HEADER) + 38),
        (HEADER + b'a,,,,,"two\nlines",\n', {"a": 1}, len(HEADER) + 19),
        (HEADER + b'b,x,-1,0.5,1,,tiny\na,,,,,"two\n', {"b": 0}, len(HEADER)),
        (HEADER + b"b,x,-1,0.5,1,,tiny\na,x,-1,0.5,1,,tiny\na,y,-2", {"b": 1}, len(HEADER) + 19),
        (HEADER + b"b,x,-1,0.5,1,,tiny\na,x,-1,0.5,1,,ti", {"b": 1}, len(HEADER) + 19),
        (UNNAMED, {}, len(UNNAMED)),
        (UNNAMED[:-1], {}, 0),
        (UNNAMED + b"a,x,-1,0.5,1,\na,y,-2,0.4,2,\n", {"a": 1}, len(UNNAMED) + 28),
        (UNNAMED + b"b,x,-1,0.5,1,\na,x,-1,0.5,1,\na,y,-2", {"b": 1}, len(UNNAMED) + 14),
    ],
)
def test_what_csv_holds(tmp_path, data, names, whole):
    path = tmp_path / "captions.csv"
    path.write_bytes(data)
    found, end = written(path, "tiny", as_csv=True)
    assert +found == +type(found)(names)
    assert end == whole


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("captions.jsonl", b"Dear diary"),
        ("captions.jsonl", b"broken\n" + LINE),
        ("captions.jsonl", LINE.replace(b"tiny", b"other")),
        ("captions.csv", b"name,age\n"),
        ("captions.csv", HEADER + b"a,x\nb,x,-1,0.5,1,,tiny\n"),
        ("captions.csv", HEADER + b"a,x,-1,0.5,1,\nb,x,-1,0.5,1,,tiny\n"),
        ("captions.csv", HEADER + b"a,x,-1,0.5,1,,other\n"),
        ("captions.csv", UNNAMED + b"a,x,-1,0.5,1,,tiny\n"),
    ],
)
def test_another_file_is_not_gone_on_with(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CaptionBotError, match="not a file to go on with"):
        written(path, "tiny", as_csv=name.endswith("csv"))
    assert path.read_bytes() == data


def test_texts_of_photos_whose_names_are_not_utf8_are_packed():
    packed = zip_of_texts([(os.fsdecode(b"photos.tar/caf\xe9.jpg"), Captioned((), None))])
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["photos.tar/caf\\udce9.txt"]
