"""Every format in its original form, as `load_dataset` recognises it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import h5py
import numpy as np
import pytest

from captionbot.errors import CaptionBotError
from training.data import Example, open_images
from training.data.cs231n import load_cs231n
from training.data.files import split_by_name
from training.data.formats import FORMATS, load_dataset
from training.evaluation.predictions import captions_of


def captions(examples):
    return {example.name: list(example.captions) for example in examples}


def splits(examples):
    return {example.name: example.split for example in examples}


# Flickr30k


def test_token_file_of_flickr30k(tmp_path):
    (tmp_path / "results_20130124.token").write_text(
        "1000092795.jpg#0\tTwo young guys with shaggy hair look at their hands .\n"
        "1000092795.jpg#1\tTwo young , White males are outside near many bushes .\n"
        "10002456.jpg#0\tSeveral men in hard hats are operating a giant pulley system .\n"
    )
    (tmp_path / "train.txt").write_text("1000092795\n")  # the lists of Flickr30k Entities
    (tmp_path / "val.txt").write_text("10002456\n")
    examples = load_dataset(tmp_path)
    assert splits(examples) == {"1000092795.jpg": "train", "10002456.jpg": "val"}
    assert captions(examples)["1000092795.jpg"][1] == "Two young , White males are outside near many bushes ."


def test_results_csv_of_flickr30k_with_its_broken_line(tmp_path):
    (tmp_path / "flickr30k_images").mkdir()
    path = tmp_path / "flickr30k_images" / "results.csv"
    path.write_bytes(
        b"image_name| comment_number| comment\n"
        b'1000092795.jpg| 0| "Two" young guys , one | two .\n'
        b"1000092795.jpg| 1| Two young , White males\n"
        b"2199200615.jpg| 3| A dog on grass .\n"
        b"2199200615.jpg| 4   A dog runs across the grass .\n"
    )
    expected = {
        "1000092795.jpg": ['"Two" young guys , one | two .', "Two young , White males"],
        "2199200615.jpg": ["A dog on grass .", "A dog runs across the grass ."],
    }
    assert captions(load_dataset(tmp_path)) == expected
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert captions(load_dataset(path)) == expected


def test_the_name_with_a_number_behind_it(tmp_path):
    path = tmp_path / "Flickr8k.token.txt"
    path.write_text("2258277193_586949ec62.jpg.1#0\tpeople waiting\n1.jpg#0\ta dog\n")
    assert list(captions(load_dataset(path))) == ["1.jpg", "2258277193_586949ec62.jpg"]


def test_flickr8k_with_its_lemmas_beside_it(tmp_path):
    (tmp_path / "Flickr8k.lemma.token.txt").write_text("1.jpg#0\tdog run\n")
    (tmp_path / "Flickr8k.token.txt").write_text("1.jpg#0\tDogs run .\n")
    assert captions(load_dataset(tmp_path)) == {"1.jpg": ["Dogs run ."]}


CAPTIONS_TXT = (
    "image,caption\n"
    "1000268201_693b08cb0e.jpg,A child in a pink dress .\n"
    '1012212859_01547e3f17.jpg,"A dog shakes its head near the shore , a red ball next to it ."\n'
    '1012212859_01547e3f17.jpg,"A dog called ""Rex"" ."\n'
    "1012212859_01547e3f17.jpg,A white dog , on a beach .\n"
)


@pytest.mark.parametrize("name", ["captions.txt", "captions.csv"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_csv_with_commas_in_captions(tmp_path, name, start, end):
    (tmp_path / name).write_bytes(start + CAPTIONS_TXT.encode().replace(b"\n", end))
    assert captions(load_dataset(tmp_path)) == {
        "1000268201_693b08cb0e.jpg": ["A child in a pink dress ."],
        "1012212859_01547e3f17.jpg": [
            "A dog shakes its head near the shore , a red ball next to it .",
            'A dog called "Rex" .',
            "A white dog , on a beach .",
        ],
    }


def test_lists_of_splits_count_beside_a_csv(tmp_path):
    (tmp_path / "captions.txt").write_text(CAPTIONS_TXT)
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("1012212859_01547e3f17.jpg\n")
    assert splits(load_dataset(tmp_path)) == {"1012212859_01547e3f17.jpg": "train"}


# Karpathy and COCO


def test_karpathys_split_of_coco(tmp_path):
    image = {
        "filepath": "val2014",
        "sentids": [770337],
        "filename": "COCO_val2014_000000391895.jpg",
        "imgid": 0,
        "split": "test",
        "sentences": [{"tokens": ["a", "man"], "raw": "A man. ", "imgid": 0, "sentid": 770337}],
        "cocoid": 391895,
    }
    others = [{**image, "filename": f"{split}.jpg", "split": split} for split in ("train", "restval", "val")]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": [image, *others], "dataset": "coco"}))
    examples = load_dataset(tmp_path)
    assert examples[0] == Example("COCO_val2014_000000391895.jpg", ("A man.",), "test", 391895)
    assert {e.name: e.split for e in examples[1:]} == {
        "restval.jpg": "train",
        "train.jpg": "train",
        "val.jpg": "val",
    }
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": [image]}))
    with pytest.raises(CaptionBotError, match=r"name one of dataset_coco\.json, dataset_flickr8k\.json"):
        load_dataset(tmp_path)


def coco(number, caption, year="2014"):
    return {
        "info": {"description": f"COCO {year} Dataset", "year": int(year)},
        "licenses": [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution"}],
        "images": [{"license": 4, "file_name": f"{number:012}.jpg", "height": 4, "width": 4, "id": number}],
        "annotations": [{"image_id": number, "id": 1, "caption": caption}],
    }


def test_coco_of_both_splits(tmp_path):
    folder = tmp_path / "annotations"
    folder.mkdir()
    (folder / "captions_val2014.json").write_text(json.dumps(coco(7, "A bear.\n")))
    (folder / "captions_train2014.json").write_text(json.dumps(coco(139, " Two bears")))
    (folder / "instances_val2014.json").write_text('{"images": [{"file_name": "no.jpg"}]}')
    assert load_dataset(tmp_path) == [
        Example("000000000007.jpg", ("A bear.",), "val", 7),
        Example("000000000139.jpg", ("Two bears",), "train", 139),
    ]
    (folder / "captions_val2017.json").write_text(json.dumps(coco(8, "Three bears", "2017")))
    with pytest.raises(CaptionBotError, match="captions of 2014 and 2017"):
        load_dataset(tmp_path)
    assert [e.split for e in load_dataset(folder / "captions_val2017.json")] == ["val"]


def test_the_real_coco_file(shared):
    examples = load_dataset(shared / "data" / "coco")
    assert len(examples) == 5000
    assert sum(len(example.captions) for example in examples) == 25014
    assert {example.split for example in examples} == {"val"}
    first = examples[0]
    assert (first.name, first.image_id) == ("000000000139.jpg", 139)
    assert not any(caption != caption.strip() for example in examples for caption in example.captions)


@pytest.mark.parametrize("source", ["coco/captions_val2017.json", "flickr8k/Flickr8k.token.txt"])
def test_a_renamed_file_is_known_by_its_beginning(shared, tmp_path, source):
    path = shared / "data" / source
    (tmp_path / "mine").symlink_to(path)
    assert captions(load_dataset(tmp_path / "mine")) == captions(load_dataset(path))


# Visual Genome


def genome(tmp_path):
    region = {"region_id": 1382, "width": 82, "height": 139, "image_id": 1, "x": 421, "y": 57}
    phrases = ["the clock is green in colour", "shade is  along the street ", "a car", "a tree"]
    content = [
        {"regions": [{**region, "phrase": phrase} for phrase in phrases], "id": 1},
        {"regions": [{**region, "phrase": "a desk"}], "id": 2},
    ]
    (tmp_path / "region_descriptions.json").write_text(json.dumps(content))
    return tmp_path


def test_region_descriptions(tmp_path):
    examples = load_dataset(genome(tmp_path))
    assert captions(examples) == {
        "1.jpg": ["the clock is green in colour", "shade is along the street", "a car", "a tree"],
        "2.jpg": ["a desk"],
    }
    assert [example.image_id for example in examples] == [1, 2]
    assert captions(load_dataset(tmp_path, "visual-genome-joined")) == {
        "1.jpg": ["the clock is green in colour, shade is along the street, a car"],
        "2.jpg": ["a desk"],
    }


# CS231n


@pytest.fixture
def cs231n(tmp_path):
    words = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog", "runs"]
    (tmp_path / "coco2014_vocab.json").write_text(
        json.dumps({"idx_to_word": words, "word_to_idx": {word: i for i, word in enumerate(words)}})
    )
    rows = np.zeros((3, 17), np.int32)
    rows[0, :5] = [1, 4, 5, 6, 2]
    rows[1, :4] = [1, 4, 3, 2]
    rows[2, :4] = [1, 5, 6, 2]
    with h5py.File(tmp_path / "coco2014_captions.h5", "w") as file:
        file["train_captions"], file["train_image_idxs"] = rows, np.array([1, 0, 1], np.int32)
        file["val_captions"], file["val_image_idxs"] = rows[:1], np.array([0], np.int32)
    for split, count in (("train", 2), ("val", 1)):
        for kind, size in (("fc7_pca", 512), ("fc7", 4096)):
            with h5py.File(tmp_path / f"{split}2014_vgg16_{kind}.h5", "w") as file:
                file["features"] = np.arange(count * size, dtype=np.float32).reshape(count, size)
        lines = [f"http://farm{i}.staticflickr.com/4153/{split}{i}_z.jpg\n" for i in range(count)]
        (tmp_path / f"{split}2014_urls.txt").write_text("".join(lines))
        lines = [f"{split}2014/COCO_{split}2014_{i:012}.jpg\n" for i in range(count)]
        (tmp_path / f"{split}2014_images.txt").write_text("".join(lines))
    return tmp_path


def test_cs231n_as_examples(cs231n):
    assert load_dataset(cs231n) == [
        Example("COCO_train2014_000000000000.jpg", ("a <UNK>",), "train"),
        Example("COCO_train2014_000000000001.jpg", ("a dog runs", "dog runs"), "train"),
        Example("COCO_val2014_000000000000.jpg", ("a dog runs",), "val"),
    ]


def test_cs231n_as_it_is(cs231n):
    train = load_cs231n(cs231n)
    assert train.captions.shape == (3, 17) and train.captions.dtype == np.int32
    assert train.image_indices.tolist() == [1, 0, 1]
    assert train.features.shape == (2, 512) and train.features[1, 0] == 512
    assert train.urls[1] == "http://farm1.staticflickr.com/4153/train1_z.jpg"
    assert load_cs231n(cs231n, "val", "fc7").features.shape == (1, 4096)
    (cs231n / "train2014_images.txt").unlink()
    assert load_cs231n(cs231n, features=None).names == ("train0_z.jpg", "train1_z.jpg")


def test_cs231n_that_is_not_whole_is_refused(cs231n):
    with pytest.raises(CaptionBotError, match="the splits are train and val"):
        load_cs231n(cs231n, "test")
    (cs231n / "train2014_images.txt").write_text("one.jpg\n")
    with pytest.raises(CaptionBotError, match="none of the 1"):
        load_dataset(cs231n)
    (cs231n / "coco2014_vocab.json").unlink()
    with pytest.raises(CaptionBotError, match=r"coco2014_vocab\.json"):
        load_dataset(cs231n)


# One's own photos


OWN = {"a.jpg": ["a dog", "a cat, asleep"], "b.png": ["two dogs"]}
TABLES = {
    "captions.csv": "file_name;text\na.jpg;a dog\nphotos/a.jpg;a cat, asleep\nb.png;two dogs\n",
    "captions.jsonl": '{"image": "a.jpg", "captions": ["a dog", "a cat, asleep"]}\n\n'
    '{"file_name": "photos\\\\b.png", "caption": "two dogs"}\n',
    "captions.json": '{"a.jpg": ["a dog", "a cat, asleep"], "b.png": "two dogs"}',
    "metadata.jsonl": '{"file_name": "a.jpg", "text": "a dog"}\n'
    '{"file_name": "a.jpg", "text": "a cat, asleep"}\n'
    '{"file_name": "b.png", "text": "two dogs"}',
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_ones_own(tmp_path, name):
    (tmp_path / name).write_text(TABLES[name])
    examples = load_dataset(tmp_path)
    assert captions(examples) == OWN
    assert set(splits(examples).values()) == {"train", "val"}
    assert load_dataset(tmp_path / name) == load_dataset(tmp_path, "folder") == examples


def test_a_table_can_tell_the_splits(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("image,caption,split\na.jpg,a dog,train\nb.jpg,a cat,validation\nc.jpg,two,TEST\n")
    assert splits(load_dataset(path)) == {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.csv", "image,caption,split\na.jpg,a dog,train\na.jpg,a dog,val\n", "into train and val"),
        ("captions.csv", "image,caption,split\na.jpg,a,train\nb.jpg,a,\n", "none for 'b.jpg'"),
        ("captions.csv", "image,caption,split\na.jpg,a dog,learn\n", "'learn' is not a split; .* restval"),
        ("captions.csv", 'image,caption\na.jpg,fine\nb.jpg,"A dog" runs\n', "Line 3 of .* is not CSV"),
        ("captions.csv", "image,caption\na.jpg\n", "Line 2 of .* should name an image"),
        ("captions.csv", "photo,words\na.jpg,a dog\n", "first line of .* should name its columns"),
        ("captions.csv", "image,caption\n", "no captions, although it looks like the format folder"),
        ("captions.jsonl", '{"image": "a.jpg", "caption": "a"}\n{"image"\n', "Line 2 of .* is not JSON"),
        ("captions.jsonl", '{"image": "a.jpg", "caption": 3}\n', "Line 1 of .* should name an image"),
        ("captions.jsonl", '{"caption": "a dog"}\n', "Line 1 of .* should name an image"),
        ("captions.json", "[[1]]", "Entry 1 of .* should name an image"),
        ("captions.json", "3", "should be a list of objects"),
        ("captions.json", "{", "is not JSON"),
    ],
)
def test_faulty_tables_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(CaptionBotError, match=message):
        load_dataset(tmp_path)


SIDECARS = {
    "photos/a.jpg": b"photo",
    "photos/a.txt": b"\xef\xbb\xbfa dog\r\n\r\na cat, asleep\r\n",
    "photos/b.png": b"photo",
    "photos/b.json": b'{"caption": "two dogs", "width": 3, "height": null}',
    "photos/c.jpg": b"without a text",
    "readme.txt": b"of no image",
}


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_a_text_beside_each_image(tmp_path):
    for name, data in SIDECARS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    examples = load_dataset(tmp_path)
    assert captions(examples) == OWN
    assert splits(examples) == split_by_name(OWN)
    (tmp_path / "photos" / "b.json").write_bytes(b"[")
    with pytest.raises(CaptionBotError, match=r"b\.json is not JSON"):
        load_dataset(tmp_path)


def test_tar_shards(tmp_path):
    write_tar(tmp_path / "shard-000000.tar", SIDECARS)
    write_tar(tmp_path / "shard-000001.tar", {"d.v2.jpg": b"d", "d.v2.txt": b"a bird"})
    examples = load_dataset(tmp_path)
    assert captions(examples) == {**OWN, "d.v2.jpg": ["a bird"]}
    store = open_images(tmp_path)
    assert store["d.v2.jpg"] == b"d" and all(example.name in store for example in examples)
    assert captions(load_dataset(tmp_path / "shard-000001.tar")) == {"d.v2.jpg": ["a bird"]}


def test_tar_shards_that_tell_their_split(tmp_path):
    write_tar(tmp_path / "train" / "000.tar", {"a.jpg": b"a", "a.txt": b"a dog"})
    write_tar(tmp_path / "val-000.tar", {"b.jpg": b"b", "b.txt": b"a cat"})
    write_tar(tmp_path / "test_0.tar", {"c.jpg": b"c", "c.txt": b"a bird", "c.json": b'{"split": "train"}'})
    assert splits(load_dataset(tmp_path)) == {"a.jpg": "train", "b.jpg": "val", "c.jpg": "train"}


# All of them


def test_splits_by_name_are_the_same_everywhere():
    names = [f"{i}.jpg" for i in range(2000)]
    found = split_by_name(names)
    val = {name for name, split in found.items() if split == "val"}
    by_hand = {
        name for name in names if int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) < 2**64 // 10
    }
    assert val == by_hand and 150 < len(val) < 250
    assert split_by_name(names[:1000]).items() <= found.items()


@pytest.mark.parametrize(("count", "least"), [(2, 1), (3, 1), (5, 1), (6, 2), (12, 4), (30, 4)])
def test_small_data_sets_have_both_splits_and_val_enough_to_choose_by(count, least):
    sizes = set()
    for start in range(50):
        found = [*split_by_name(f"{i}.jpg" for i in range(start, start + count)).values()]
        assert set(found) == {"train", "val"}
        sizes.add(found.count("val"))
    assert min(sizes) == least
    assert count > 12 or sizes <= {least, least + 1, least + 2}


def test_what_cannot_be_read_is_told_with_what_can(tmp_path):
    with pytest.raises(
        CaptionBotError, match="auto or one of mixture, karpathy, coco, flickr, visual-genome"
    ):
        load_dataset(tmp_path, "pascal")
    with pytest.raises(CaptionBotError, match=r"no data set at .*nowhere"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(CaptionBotError) as caught:
        load_dataset(tmp_path)
    assert all(f"{name}: {form.about}" in str(caught.value) for name, form in FORMATS.items())
    with pytest.raises(CaptionBotError, match=r"\(coco: captions_train2014"):
        load_dataset(tmp_path, "coco")
    (tmp_path / "captions.csv").write_bytes(b"image,caption\na.jpg,caf\xe9\n")
    with pytest.raises(CaptionBotError, match="not text in UTF-8"):
        load_dataset(tmp_path)


def test_a_split_that_is_none_is_named_with_its_line(tmp_path):
    (tmp_path / "captions.csv").write_text("image,caption,split\na.jpg,A dog, wet and happy,train\n")
    with pytest.raises(CaptionBotError, match=r"Line 2 of .*captions\.csv: 'wet and happy' is not a split"):
        load_dataset(tmp_path)


def test_a_file_that_is_no_tar_is_not_read_as_one(tmp_path):
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,A dog.\n" * 50)
    with pytest.raises(CaptionBotError, match="is damaged"):
        load_dataset(tmp_path / "captions.csv", "tar")


# What other programs write


@pytest.mark.parametrize(
    "place", ["images/a.jpg", "images\\a.jpg", "./images/a.jpg", "C:\\set\\a.jpg", "/set/a.jpg"]
)
def test_file_names_of_coco_may_hold_folders(tmp_path, place):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"a")
    write_coco(tmp_path / "captions_val.json", [(1, place)], [(1, "a wall")])
    (example,) = load_dataset(tmp_path)
    assert (example.name, example.image_id) == ("a.jpg", 1)
    assert open_images(tmp_path)[example.name] == b"a"


def write_coco(path, images, annotations):
    content = {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "annotations": [
            {"id": n, "image_id": number, "caption": text} for n, (number, text) in enumerate(annotations)
        ],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("images", "annotations", "expected"),
    [
        ([("1", "a.jpg")], [(1, "one"), ("1", "two")], {"a.jpg": ["one", "two"]}),
        ([(1, "a.jpg"), (2, "a.jpg")], [(1, "one"), (2, "two")], {"a.jpg": ["one", "two"]}),
        ([(1, "a.jpg"), (1, "a.jpg")], [(1, "one")], {"a.jpg": ["one"]}),
        ([("x7", "a.jpg")], [("x7", ["one", "two"])], {"a.jpg": ["one", "two"]}),
        ([(1.0, "a.jpg")], [(1, " one ")], {"a.jpg": ["one"]}),
        (
            [(1, "x/a.jpg"), (2, "y\\a.jpg"), (3, "y/b.jpg")],
            [(1, "one"), (2, "two"), (3, "three")],
            {"b.jpg": ["three"], "x/a.jpg": ["one"], "y/a.jpg": ["two"]},
        ),
    ],
)
def test_ids_of_coco_may_be_text_or_given_twice(tmp_path, images, annotations, expected):
    assert captions(load_dataset(write_coco(tmp_path / "captions_val.json", images, annotations))) == expected


@pytest.mark.parametrize(
    ("images", "annotations", "said"),
    [
        (
            [(1, "a.jpg")],
            [(1, "one"), (2, "two"), (2, "2")],
            "captions of 1 images .* the first of the id 2:",
        ),
        ([(1, "a.jpg"), (1, "b.jpg")], [(1, "one")], "gives the id 1 to 'a.jpg' and to 'b.jpg'"),
        ([(None, "a.jpg")], [(1, "one")], "an id is 'None'"),
        ([(1, "a.jpg")], [(1, None)], "not in COCO's format"),
    ],
)
def test_ids_of_coco_that_fit_nothing_are_named(tmp_path, images, annotations, said):
    path = write_coco(tmp_path / "captions_val.json", images, annotations)
    with pytest.raises(CaptionBotError, match=said) as caught:
        load_dataset(path)
    assert "KeyError" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("captions_latest.json", {"train", "val"}),  # no "test": split by name, as of all other formats
        ("captions_retrieval.json", {"train", "val"}),
        ("captions_dev.json", {"val"}),
        ("captions_train2014.json", {"train"}),
    ],
)
def test_the_split_of_a_coco_file_is_a_word_of_its_name(tmp_path, name, expected):
    path = write_coco(tmp_path / name, [(1, "a.jpg"), (2, "b.jpg")], [(1, "one"), (2, "two")])
    assert set(splits(load_dataset(path)).values()) == expected


@pytest.mark.parametrize("name", ["captions.json", "my photos.json", "annotations/export.json"])
def test_a_coco_file_of_ones_own_is_known_by_what_is_in_it(tmp_path, name):
    """Under any name, beside the photos; not one of boxes, as tools export it beside."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write_coco(tmp_path / name, [(1, "a.jpg"), (2, "b.jpg")], [(1, "one"), (2, "two")])
    boxes = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "bbox": []}]}
    (tmp_path / name).with_name("boxes.json").write_text(json.dumps(boxes))
    (tmp_path / name).with_name("empty.json").write_text("")
    assert captions(load_dataset(tmp_path)) == {"a.jpg": ["one"], "b.jpg": ["two"]}


def test_a_coco_file_in_the_folder_of_each_split(tmp_path):
    for split, image in (("train", "a.jpg"), ("valid", "b.jpg")):
        (tmp_path / split).mkdir()
        write_coco(tmp_path / split / "_annotations.coco.json", [(1, image)], [(1, split)])
    assert splits(load_dataset(tmp_path)) == {"a.jpg": "train", "b.jpg": "val"}


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_a_table_in_the_folder_of_each_split(tmp_path, name):
    for split, image in (("train", "a.jpg"), ("validation", "b.jpg"), ("test", "c.jpg")):
        (tmp_path / "data" / split).mkdir(parents=True)
        row = {"file_name": image, "text": split}
        csv = "file_name,text\n" + f"{image},{split}\n"
        (tmp_path / "data" / split / name).write_text(json.dumps(row) if name.endswith("l") else csv)
    examples = load_dataset(tmp_path)
    assert splits(examples) == {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}
    assert captions(examples)["b.jpg"] == ["validation"]


def test_a_table_above_the_folders_of_the_splits(tmp_path):
    rows = [
        {"file_name": f"{split}/{name}.jpg", "text": "one"} for split, name in (("train", "a"), ("dev", "b"))
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert splits(load_dataset(tmp_path)) == {"a.jpg": "train", "b.jpg": "val"}


def test_captions_of_two_images_of_one_name_are_not_mixed(tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("image,caption\ntrain/1.jpg,one\nval/1.jpg,two\nval/2.jpg,three\n2.jpg,four\n")
    examples = load_dataset(tmp_path)
    assert captions(examples) == {"2.jpg": ["three", "four"], "train/1.jpg": ["one"], "val/1.jpg": ["two"]}
    assert splits(examples) == {"2.jpg": "val", "train/1.jpg": "train", "val/1.jpg": "val"}
    table.write_text("image,caption\nx/1.jpg,one\ny/1.jpg,two\n1.jpg,three\n")
    with pytest.raises(
        CaptionBotError, match=r"a '1\.jpg' that may be the one in x or in y: name its folder"
    ):
        load_dataset(tmp_path)


def test_numbered_photos_in_the_folders_of_kohya(tmp_path):
    """Each folder numbers its photos from 1; texts, photos and predictions go by the folder too."""
    for folder in ("10_dog", "5_cat", "."):
        (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / folder / "1.png").write_bytes(folder.encode())
        (tmp_path / "set" / folder / "1.txt").write_text(f"a photo in {folder}")
    examples, store = load_dataset(tmp_path / "set"), open_images(tmp_path / "set")
    assert {e.name: e.captions for e in examples} == {
        "1.png": ("a photo in .",),
        "10_dog/1.png": ("a photo in 10_dog",),
        "5_cat/1.png": ("a photo in 5_cat",),
    }  # fmt: skip
    assert [store[e.name] for e in examples] == [b".", b"10_dog", b"5_cat"]
    said = {"set/10_dog/1.png": "a dog", "set/5_cat/1.png": "a cat"}
    assert captions_of(examples[1:], said) == {"10_dog/1.png": "a dog", "5_cat/1.png": "a cat"}


def test_texts_of_kohya_and_of_whole_names(tmp_path):
    for folder in ("10_dog", ".thumbnails", "__MACOSX"):
        (tmp_path / folder).mkdir()
        for name in ("a.jpg", "b.AVIF", "c.jfif"):
            (tmp_path / folder / name).write_bytes(b"")
    (tmp_path / "10_dog" / "a.caption").write_text("a wall, red")
    (tmp_path / "10_dog" / "a.txt").write_text("wall, red, solo")
    (tmp_path / "10_dog" / "b.AVIF.txt").write_text("one\r\ntwo\r\n")
    (tmp_path / "10_dog" / "c.CAPTION").write_bytes("zwei Wände".encode("utf-16"))
    assert captions(load_dataset(tmp_path)) == {
        "a.jpg": ["a wall, red"],
        "b.AVIF": ["one", "two"],
        "c.jfif": ["zwei Wände"],
    }
    assert len(open_images(tmp_path)) == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_of_windows_and_old_macs(tmp_path, encoding, end):
    path = tmp_path / "captions.csv"
    path.write_bytes(end.join(["image\tcaption", "a.jpg\tein Mädchen", ""]).encode(encoding))
    assert captions(load_dataset(path)) == {"a.jpg": ["ein Mädchen"]}


def test_a_table_in_latin_1_is_named(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_bytes("image,caption\na.jpg,ein Mädchen\n".encode("latin-1"))
    with pytest.raises(CaptionBotError, match="is not text in UTF-8"):
        load_dataset(path)


def test_names_find_their_photos_however_systems_write_them(tmp_path):
    (tmp_path / "cafe\u0301.JPG").write_bytes(b"a")
    images = open_images(tmp_path)
    assert images["caf\u00e9.jpg"] == b"a" and "cafe.jpg" not in images


@pytest.mark.parametrize("name", ["captions.json", "captions.jsonl", "captions_val.json", "dataset_x.json"])
@pytest.mark.parametrize("content", ["[" * 100_000, '{"images": ' + "9" * 5000 + "}"])
def test_json_without_end_is_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(CaptionBotError) as caught:
        load_dataset(tmp_path)
    assert len(str(caught.value)) < 1000


def test_folders_in_folders_without_end_are_read(tmp_path):
    folder = tmp_path / "set"
    for _ in range(1200):
        folder.mkdir()
        folder /= "d"
    files = folder.parent / "a.jpg", folder.parent / "a.txt"
    try:
        for file in files:
            file.write_text("one")
        assert captions(load_dataset(tmp_path)) == {"a.jpg": ["one"]}
        assert open_images(tmp_path)["a.jpg"] == b"one"
    finally:  # pytest would clear it away with a call for each folder in the one before
        for file in files:
            file.unlink()
        while folder.parent != tmp_path:
            folder = folder.parent
            folder.rmdir()
