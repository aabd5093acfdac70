"""`python -m training.data download`, from a server on this machine that misbehaves."""

from __future__ import annotations

import io
import random
import shutil
import zipfile

import pytest
from local_server import local_server

from captionbot.errors import CaptionBotError
from training.data import __main__ as command
from training.data import download, open_images
from training.data.download import DATASETS, Dataset, Remote, announced_size, download_dataset, unpack
from training.data.formats import load_dataset

CAPTIONS = b"1.jpg#0\ta dog runs .\n2.jpg#0\ta cat .\n"


def make_zip(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


TEXT = make_zip({"Flickr8k.token.txt": CAPTIONS, "readme.txt": b"r" * 100_000})
PHOTOS = make_zip(
    {"Flicker8k_Dataset/1.jpg": b"one", "Flicker8k_Dataset/2.jpg": b"two", "__MACOSX/._1.jpg": b"x"}
)


@pytest.fixture
def server():
    with local_server() as server:
        yield server


@pytest.fixture
def dataset(server, monkeypatch):
    """A data set in the table, on this machine."""
    remotes = Remote(server.says("/text.zip", TEXT)), Remote(server.says("/photos.zip", PHOTOS), photos=True)
    dataset = Dataset("Two photos", "for tests only", "https://example.org", remotes)
    monkeypatch.setitem(DATASETS, "two", dataset)
    return dataset


def test_from_the_server_to_examples(dataset, tmp_path, capsys):
    folder = tmp_path / "two"
    assert command.main(["download", "two", "--folder", str(folder), "--yes"]) == 0
    told = capsys.readouterr().out
    assert "Two photos\nLicence: for tests only; see https://example.org\n" in told
    assert dataset.files[0].url in told and str(folder) in told and "No hashes are published" in told
    assert [(e.name, e.captions) for e in load_dataset(folder)] == [
        ("1.jpg", ("a dog runs .",)),
        ("2.jpg", ("a cat .",)),
    ]
    store = open_images(folder)
    assert {name: store[name] for name in store.names()} == {"1.jpg": b"one", "2.jpg": b"two"}
    assert not list(folder.rglob("*.part")) and not (folder / "__MACOSX").exists()


def test_without_the_photos_and_again_without_the_network(dataset, server, tmp_path, capsys):
    flags = ["download", "two", "--folder", str(tmp_path), "--captions-only", "--yes"]
    assert command.main(flags) == 0
    assert {path for path, _ in server.requests} == {"/text.zip"}
    asked = len(server.requests)
    (tmp_path / "Flickr8k.token.txt").unlink()
    assert command.main(flags) == 0
    assert len(server.requests) == asked
    assert (tmp_path / "Flickr8k.token.txt").read_bytes() == CAPTIONS
    assert "is there  " in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2), ("", 2), (None, 2)])
def test_it_asks_first(dataset, server, tmp_path, monkeypatch, capsys, answer, code):
    monkeypatch.setattr("sys.stdin", io.StringIO("" if answer is None else f"{answer}\n"))
    assert command.main(["download", "two", "--folder", str(tmp_path)]) == code
    assert (tmp_path / "Flickr8k.token.txt").exists() is (code == 0)
    assert "Download? [y/N]" in capsys.readouterr().out


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    noise = random.Random(1).randbytes(1_000_000)
    whole = make_zip({"noise.bin": noise})
    bodies = iter([whole, whole[:600_000]])  # the first request only asks for the size
    ranges = []

    def answer(exchange):
        if asked := exchange.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            ranges.append(start)
            told = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
            exchange.answer(whole[start:], 206, ETag='"v1"', Content_Range=told)
        else:
            exchange.answer(next(bodies), length=len(whole), ETag='"v1"')

    server.answers["/big.zip"] = answer
    remote = Remote(server.url("/big.zip"))
    sizes = {remote: announced_size(remote, tmp_path)}
    assert sizes == {remote: len(whole)}
    with pytest.raises(CaptionBotError, match="it goes on where it stopped"):
        download_dataset(sizes, tmp_path, delays=())
    assert not (tmp_path / "noise.bin").exists()
    download_dataset(sizes, tmp_path, delays=())
    assert len(ranges) == 1 and 500_000 < ranges[0] <= 600_000
    assert (tmp_path / "noise.bin").read_bytes() == noise
    assert (tmp_path / "big.zip").read_bytes() == whole


def test_another_file_than_was_published_is_refused(server, tmp_path):
    remote = Remote(server.says("/text.zip", TEXT), sha256="0" * 64)
    with pytest.raises(CaptionBotError, match="sha256"):
        download_dataset({remote: len(TEXT)}, tmp_path, delays=())
    assert not (tmp_path / "Flickr8k.token.txt").exists()


def test_only_what_is_wanted_is_unpacked(server, tmp_path):
    files = {"x/dataset_coco.json": b"{}", "x/dataset_flickr8k.json": b"{}"}
    remote = Remote(server.says("/all.zip", make_zip(files)), members=("dataset_coco.json",))
    assert download_dataset({remote: 1}, tmp_path) == [tmp_path / "x" / "dataset_coco.json"]
    assert not (tmp_path / "x" / "dataset_flickr8k.json").exists()


def test_a_server_without_the_file_is_told_before_the_question(dataset, server, tmp_path, capsys):
    server.says("/photos.zip", b"gone", status=404)
    assert command.main(["download", "two", "--folder", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "/photos.zip does not answer" in captured.err and "Download?" not in captured.out


def test_no_room_is_told_before_a_byte_is_fetched(dataset, server, tmp_path):
    sizes = dict.fromkeys(dataset.files, 10**16)
    with pytest.raises(CaptionBotError, match=r"10,000,000\.0 GB|20,000,000\.0 GB"):
        download_dataset(sizes, tmp_path)
    assert server.requests == []


def test_no_room_for_what_is_unpacked(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(TEXT)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(CaptionBotError, match="choose another folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:\\evil.txt", "C:evil.txt"]
)
def test_an_archive_that_leads_out_of_the_folder_is_refused_as_a_whole(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(make_zip({"good.txt": b"good", name: b"evil"}))
    with pytest.raises(CaptionBotError, match="do not trust this archive"):
        unpack(tmp_path / "a.zip", tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*.txt")] == []


def test_a_damaged_archive_leaves_no_file_that_looks_whole(tmp_path):
    noise = bytes((i * i) % 251 for i in range(100_000))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("noise.bin", noise)
    data = bytearray(archive.getvalue())
    data[5000] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(CaptionBotError, match=r"noise\.bin cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path)
    assert not (tmp_path / "noise.bin").exists()


def test_the_table_names_files_by_their_addresses():
    for dataset in DATASETS.values():
        names = [remote.name for remote in dataset.files]
        assert len(set(names)) == len(names) and all(name.endswith(".zip") for name in names)
    with pytest.raises(CaptionBotError, match="no data set 'pascal' to download; choose one of flickr8k"):
        download.find_dataset("pascal")
