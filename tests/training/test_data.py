import gzip
import io
import json
import pickle
import tarfile

import pytest

from captionbot.errors import CaptionBotError
from training.data import Example, open_images
from training.data.flickr import SPLIT_LISTS, read_text_captions
from training.data.formats import load_dataset

TOKEN_FILE = (
    "b.jpg#0\tA dog , running .\n"
    "b.jpg#1\tTwo   dogs\n"
    "a.jpg#1\tsecond\n"
    "a.jpg#0\tfirst one \n"
    "a.jpg#10\televenth\n"
    "c.jpg#0\tin no list\n"
)


@pytest.fixture
def original(tmp_path):
    """A data set in the original format of Flickr8k."""
    (tmp_path / "Flickr8k.token.txt").write_text(TOKEN_FILE)
    (tmp_path / SPLIT_LISTS["train"]).write_text("b.jpg\n")
    (tmp_path / SPLIT_LISTS["val"]).write_text("a.jpg\n")
    return tmp_path


def test_original_format(original):
    assert load_dataset(original) == [
        Example("a.jpg", ("first one", "second", "eleventh"), "val"),
        Example("b.jpg", ("A dog , running .", "Two   dogs"), "train"),
    ]


def test_original_format_with_the_line_ends_of_windows(original):
    expected = load_dataset(original)
    for path in original.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_dataset(original) == expected


def test_karpathys_file_comes_first(original):
    image = {"filename": "z.jpg", "split": "test", "sentences": [{"raw": "a zebra ."}]}
    (original / "dataset_flickr8k.json").write_text(json.dumps({"images": [image]}))
    assert load_dataset(original) == [Example("z.jpg", ("a zebra .",), "test")]


def test_both_forms_of_flickr8k_are_one_data_set(shared, tmp_path):
    folder = shared / "data/flickr8k"
    for path in folder.glob("Flickr*.txt"):
        (tmp_path / path.name).symlink_to(path)
    examples = load_dataset(folder)
    assert load_dataset(tmp_path) == examples
    assert [sum(e.split == split for e in examples) for split in ("train", "val")] == [6000, 1000]
    assert {len(e.captions) for e in examples} == {5}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("Flickr8k.token.txt", b"b.jpg\tno number\n", "Line 1 of .*Flickr8k.token.txt"),
        ("Flickr8k.token.txt", b"b.jpg#0 no tab\n", "name.jpg#0, a tab and a caption"),
        ("Flickr8k.token.txt", b"b.jpg#0\tcaf\xe9\n", "not text in UTF-8"),
        (SPLIT_LISTS["val"], b"lost.jpg\n", "'lost.jpg'"),
        ("dataset_flickr8k.json", b'{"sentences": ', "not JSON"),
        ("dataset_flickr8k.json", b'{"sentences": []}', "Karpathy"),
        ("dataset_flickr8k.json", b'{"images": [{"sentences": []}]}', "'filename'"),
    ],
)
def test_faulty_files_are_named(original, name, content, message):
    (original / name).write_bytes(content)
    with pytest.raises(CaptionBotError, match=message):
        load_dataset(original)


def test_the_original_format_without_lists_is_split_by_name(original):
    for name in SPLIT_LISTS.values():
        (original / name).unlink(missing_ok=True)
    assert [(e.name, len(e.captions)) for e in load_dataset(original)] == [
        ("a.jpg", 3),
        ("b.jpg", 2),
        ("c.jpg", 1),
    ]
    assert {e.split for e in load_dataset(original)} == {"train", "val"}


PHOTOS = {f"{i}.jpg": bytes([i]) * (700 * i + 1) for i in range(1, 6)}


def make_tar(path, photos, folder=""):
    with tarfile.open(path, "w") as tar:
        for name, data in photos.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def contents(store):
    return {name: store[name] for name in store.names()}


@pytest.mark.parametrize("folder", ["", "./", "images/train/"])
def test_images_of_a_tar(tmp_path, folder):
    store = open_images(make_tar(tmp_path / "images.tar", PHOTOS, folder))
    assert contents(store) == PHOTOS
    assert len(store) == 5 and "3.jpg" in store and "6.jpg" not in store


def test_images_of_a_folder_with_subfolders_and_tars(tmp_path):
    (tmp_path / "sub").mkdir()
    make_tar(tmp_path / "images-train.tar", {"a.jpg": b"a", "notes.txt": b"no image"})
    make_tar(tmp_path / "sub/images-val.TAR", {"b.PNG": b"b", "._a.jpg": b"left by macOS"})
    (tmp_path / "sub/c.jpeg").write_bytes(b"c")
    (tmp_path / "captions.csv").write_text("image,caption")
    assert contents(open_images(tmp_path)) == {"a.jpg": b"a", "b.PNG": b"b", "c.jpeg": b"c"}


def test_a_store_can_be_shared_with_workers(tmp_path):
    from torch.utils.data import DataLoader

    store = open_images(make_tar(tmp_path / "images.tar", PHOTOS))
    assert contents(pickle.loads(pickle.dumps(store))) == PHOTOS
    names = store.names() * 20
    loader = DataLoader(names, batch_size=None, num_workers=2, collate_fn=lambda name: (name, store[name]))
    assert list(loader) == [(name, PHOTOS[name]) for name in names]


def test_flickr8k_has_a_photo_for_each_example(shared):
    folder = shared / "data/flickr8k"
    store = open_images(folder)
    names = [example.name for example in load_dataset(folder)]
    assert store.names() == names
    assert all(store[name].startswith(b"\xff\xd8") for name in names[::500])


def test_images_that_cannot_be_had_are_named(tmp_path):
    with pytest.raises(CaptionBotError, match=r"no images at .*nowhere"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(CaptionBotError, match=r"no images in .*\.jpg"):
        open_images(tmp_path)

    path = make_tar(tmp_path / "images.tar", PHOTOS)
    store = open_images(path)
    with pytest.raises(CaptionBotError, match=r"no image 'lost\.jpg' among the 5 under"):
        store["lost.jpg"]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CaptionBotError, match=r"'5\.jpg' is cut off"):
        store["5.jpg"]
    path.unlink()
    with pytest.raises(CaptionBotError, match=r"'1\.jpg' cannot be read"):
        store["1.jpg"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: gzip.compress(whole),
        lambda whole: whole[:1000],  # in the first photo
        lambda whole: whole[:1536],  # between the first and the second
        lambda whole: whole[:2000],  # in the header of the second
        lambda whole: whole[:1536] + b"x" * 512 + whole[2048:],
    ],
)
def test_a_damaged_tar_is_refused(tmp_path, damage):
    path = make_tar(tmp_path / "images.tar", PHOTOS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CaptionBotError, match=r"images\.tar is not a whole, uncompressed"):
        open_images(path)


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("x/dog", "x/cat", "y"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.jpg").write_bytes(folder.encode())
    (tmp_path / "1.jpg").write_bytes(b"root")
    (tmp_path / "y" / "2.jpg").write_bytes(b"only one")
    make_tar(tmp_path / "z.tar", {"z/1.JPG": b"tar"})
    store = open_images(tmp_path)
    assert contents(store) == {
        "1.jpg": b"root", "2.jpg": b"only one", "x/cat/1.jpg": b"x/cat", "x/dog/1.jpg": b"x/dog",
        "y/1.jpg": b"y", "1.JPG": b"tar",
    }  # fmt: skip
    assert store["dog/1.jpg"] == b"x/dog"  # what a table beside the folder calls it
    assert store["/home/me/set/x/cat/1.jpg"] == b"x/cat"
    assert store["elsewhere/2.jpg"] == b"only one"
    assert store["z/1.JPG"] == b"tar"
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(CaptionBotError, match=r"'1\.jpg' may be any of 4 images, .* name the folder too"):
        open_images(tmp_path)["1.jpg"]


def test_two_images_of_one_name_are_refused(tmp_path):
    make_tar(tmp_path / "one.tar", {"a.jpg": b"a"})
    (tmp_path / "a.jpg").write_bytes(b"another")
    with pytest.raises(CaptionBotError, match=r"Two images are called 'a\.jpg'"):
        open_images(tmp_path)


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.jsonl.gz"])
def test_text_captions(tmp_path, name):
    path = tmp_path / name
    lines = '{"image": "1.jpg", "captions": ["A dog .", "Zwei Mädchen"]}\n\n{"captions": "c"}\n'.encode()
    path.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    assert read_text_captions(path) == ["A dog .", "Zwei Mädchen", "c"]


@pytest.mark.parametrize("line", ["{", "[]", '{"image": "1.jpg"}', '{"captions": 3}', '{"captions": [3]}'])
def test_faulty_text_captions_are_named(tmp_path, line):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"captions": ["fine"]}\n' + line + "\n")
    with pytest.raises(CaptionBotError, match=r"Line 2 of .*captions\.jsonl"):
        read_text_captions(path)


@pytest.mark.parametrize("data", [b"plain", gzip.compress(b'{"captions": ["a dog"]}\n', mtime=0)[:-9]])
def test_a_gz_file_that_is_none_or_cut_off_is_named(tmp_path, data):
    path = tmp_path / "captions.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(CaptionBotError, match=r"captions\.jsonl\.gz is not a whole \.gz file"):
        read_text_captions(path)


def test_a_text_without_captions_is_named(tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"captions": []}\n')
    with pytest.raises(CaptionBotError, match="holds no captions"):
        read_text_captions(tmp_path / "captions.jsonl")


def test_missing_text_captions_are_named(tmp_path):
    with pytest.raises(CaptionBotError, match=r"no captions at .*nowhere"):
        read_text_captions(tmp_path / "nowhere.jsonl")


def test_text_captions_of_flickr30k(shared):
    captions = read_text_captions(shared / "data/flickr30k_captions/captions.jsonl.gz")
    assert len(captions) == 145_614
    assert captions[2] == "Two men in green shirts are standing in a yard."
