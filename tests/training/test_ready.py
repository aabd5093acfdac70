"""Ready-made features: every form of file, a captioner that learns from them, and what it cannot do."""

from __future__ import annotations

import base64
import json

import h5py
import numpy as np
import pytest
from PIL import Image

from captionbot import CaptionBotError, Captioner
from training.data.ready import open_ready, stacked
from training.evaluation.evaluate import main as evaluate
from training.run.overfit import main as overfit
from training.run.train import main as train

COLOURS = ("red", "green", "blue", "white", "black", "brown")
NAMES = [f"COCO_val2014_{number:012}.jpg" for number in range(1, 13)]  # the first of twelve is image 1
WIDTH, HEIGHT = 64.0, 32.0


def regions(image: int) -> np.ndarray:
    """(2 to 5, 8): the first region's channel says the colour, which people name."""
    values = np.random.default_rng(image).normal(0, 0.1, (2 + image % 4, 8)).astype(np.float32)
    values[0, image % 6] += 4
    return values


def boxes(image: int) -> np.ndarray:
    """In pixels."""
    found = np.tile(np.array([0, 0, WIDTH / 2, HEIGHT], np.float32), (len(regions(image)), 1))
    found[1] = (16, 8, 32, 16)
    return found


def write_tsv(path, images=range(12)):
    def line(image):
        cells = [base64.b64encode(array(image).tobytes()).decode() for array in (boxes, regions)]
        return "\t".join([str(image + 1), "64", "32", str(len(regions(image))), *cells])

    path.write_text("\n".join(map(line, images)) + "\n")
    return path


def write_folder(path):
    path.mkdir()
    for image in range(12):
        sizes = {"image_w": WIDTH, "image_h": HEIGHT}
        np.savez(path / f"{image + 1}.npz", feat=regions(image), bbox=boxes(image), **sizes)
    return path


def write_archive(path):
    scale = np.array([WIDTH, HEIGHT] * 2, np.float32)
    arrays = {str(image + 1): regions(image) for image in range(12)}
    np.savez(path, **arrays, **{f"{image + 1}_boxes": boxes(image) / scale for image in range(12)})
    return path


def write_datasets(path):
    scale = np.array([WIDTH, HEIGHT] * 2, np.float32)
    with h5py.File(path, "w") as file:
        for image in range(12):
            file[f"{image + 1}_features"], file[f"{image + 1}_boxes"] = regions(image), boxes(image) / scale
    return path


def write_groups(path):
    with h5py.File(path, "w") as file:
        for image in range(12):
            group = file.create_group(NAMES[image])
            group["features"], group["bboxes"] = regions(image), boxes(image)
            group["image_w"], group["image_h"] = WIDTH, HEIGHT
    return path


FORMS = {
    "tsv": (write_tsv, "f.tsv"),
    "folder": (write_folder, "features"),
    "npz": (write_archive, "f.npz"),
    "datasets": (write_datasets, "f.h5"),
    "groups": (write_groups, "f.hdf5"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_an_images_regions_and_their_boxes(tmp_path, form):
    write, name = FORMS[form]
    ready = open_ready(write(tmp_path / name))
    assert open_ready(tmp_path / name) is ready  # looked through once
    assert len(ready.keys) == 12
    for image in (0, 11):
        for found in (ready.load(NAMES[image]), ready.load("a.jpg", image + 1) if form != "groups" else None):
            if found is None:  # which go by file names
                continue
            np.testing.assert_array_equal(found.values, regions(image))
            assert found.boxes[1].tolist() == [0.25, 0.25, 0.5, 0.5]
    with pytest.raises(CaptionBotError, match=r"no features of 'lost\.jpg' among those of 12 images"):
        ready.load("lost.jpg")


def test_pooled_vectors_and_grids(tmp_path):
    (tmp_path / "f").mkdir()
    grid = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    np.save(tmp_path / "f" / "a.npy", np.arange(4.0))
    np.savez(tmp_path / "f" / "b.npz", feat=grid)
    np.savez(tmp_path / "f" / "c.npz", x=np.moveaxis(grid[:, :2], 2, 0))  # channels first
    np.save(tmp_path / "f" / "d.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    np.save(tmp_path / "f" / "e.npy", np.array([np.nan]))
    ready = open_ready(tmp_path / "f")
    pooled, seen, first = (ready.load(name) for name in ("a.jpg", "b.jpg", "c.jpg"))
    assert (pooled.values.shape, pooled.grid, pooled.boxes.tolist()) == ((1, 4), (1, 1), [[0, 0, 1, 1]])
    assert seen.grid == (2, 3)
    np.testing.assert_array_equal(seen.values[4], grid[1, 1])
    np.testing.assert_allclose(seen.boxes[4], (1 / 3, 1 / 2, 2 / 3, 1))
    np.testing.assert_array_equal(first.values.reshape(2, 2, 4), grid[:, :2])
    for name in ("d.jpg", "e.jpg"):  # pickled objects are not read
        with pytest.raises(CaptionBotError, match="cannot be read"):
            ready.load(name)
    batch = stacked([pooled, seen])
    assert batch.mask.sum(1).tolist() == [1, 6] and batch.grid is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.tsv", b"1\t64\t32\n", "Line 1 of .* has not the 6 columns"),
        ("f.npz", b"PK no zip", "holds no features that can be read"),
        ("f.h5", b"no HDF5", "holds no features that can be read"),
        ("f.pth", b"", r"give \.tsv, \.npz or \.h5"),
    ],
)
def test_files_that_hold_no_features_are_one_sentence(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CaptionBotError, match=said):
        open_ready(tmp_path / name)
    with pytest.raises(CaptionBotError, match="There are no features at"):
        open_ready(tmp_path / "nowhere")


FLAGS = [
    "--decoder", "top-down", "--batch-size", "4", "--warmup-steps", "0", "--device", "cpu",
    "--min-count", "1",
    "--decoder-config",
    "{annotation_size: 16, embedding_size: 16, hidden_size: 32, attention_size: 16, dropout: 0.0}",
]  # fmt: skip


def test_a_captioner_learns_from_regions_and_is_scored_on_them_but_cannot_see(tmp_path, capsys):
    features = write_tsv(tmp_path / "f.tsv")
    images = [
        {
            "filename": name,
            "cocoid": i + 1,
            "split": "train" if i < 6 else "val",
            "sentences": [{"raw": f"a {COLOURS[i % 6]} bar"}] * 2,
        }
        for i, name in enumerate(NAMES)
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    run, data = tmp_path / "run", ["--data", str(tmp_path), "--features", str(features)]
    cache = ["--cache", str(tmp_path / "cache"), "--out", str(run)]
    flags = ["--epochs", "40", "--learning-rate", "0.01", "--label-smoothing", "0", "--ema", "0"]
    assert train([*data, *cache, *FLAGS, *flags, "--patience", "40"]) == 0
    scored = ["--model", str(run), "--annotations", str(tmp_path), "--no-meteor", "--no-spice"]
    out = ["--out", str(run / "results.json"), "--device", "cpu"]
    assert evaluate([*scored, "--features", str(features), *out]) == 0
    assert json.loads((run / "results.json").read_text())["Bleu_1"] > 0.9  # of images that it did not learn

    captioner = Captioner.from_pretrained(run, "cpu")
    with pytest.raises(
        CaptionBotError, match=r"ready-made features \(f\.tsv: 8 numbers a place\) and cannot"
    ):
        captioner.caption(Image.new("RGB", (8, 8)))
    capsys.readouterr()
    assert evaluate([*scored, *out]) == 2
    assert "needs --images" in capsys.readouterr().err
    np.savez(tmp_path / "other.npz", **{str(i): np.zeros((2, 3), np.float32) for i in range(1, 13)})
    assert evaluate([*scored, "--features", str(tmp_path / "other.npz"), *out]) == 2
    assert "have 3 numbers a place" in capsys.readouterr().err
    write_tsv(features, range(3))
    assert train([*data, *cache, *FLAGS, "--replace"]) == 2
    assert "no features of 'COCO_val2014_000000000004.jpg'" in capsys.readouterr().err
    assert train([*data, *cache, *FLAGS, "--replace", "--train-encoder", "true"]) == 2
    assert "leave out --train-encoder" in capsys.readouterr().err
    assert train([*data, *cache, *FLAGS, "--replace", "--hide-patches", "0.3"]) == 2
    assert "hidden patches need photos" in capsys.readouterr().err


def write_cs231n(folder, images=4):
    """The files of coco_captioning.zip as they are, two captions of each image of train."""
    words = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "bar", *COLOURS]
    vocabulary = {"idx_to_word": words, "word_to_idx": {word: i for i, word in enumerate(words)}}
    (folder / "coco2014_vocab.json").write_text(json.dumps(vocabulary))
    rows = np.zeros((2 * images, 17), np.int32)
    for i, row in enumerate(rows):
        row[:5] = [1, 4, 6 + i // 2, 5, 2]  # "a red bar"
    with h5py.File(folder / "coco2014_captions.h5", "w") as file:
        file["train_captions"], file["train_image_idxs"] = rows, np.repeat(np.arange(images), 2)
        file["val_captions"], file["val_image_idxs"] = rows[::2], np.arange(images)
    for split in ("train", "val"):
        with h5py.File(folder / f"{split}2014_vgg16_fc7_pca.h5", "w") as file:
            file["features"] = 3 * np.eye(images, 512, dtype=np.float32)
        urls = [f"http://farm1.staticflickr.com/4153/{split}{i}_z.jpg\n" for i in range(images)]
        (folder / f"{split}2014_urls.txt").write_text("".join(urls))
    return folder


@pytest.mark.parametrize("count", [4, 7])
def test_captions_of_cs231n_are_learnt_by_heart_from_its_features(tmp_path, capsys, count):
    """Its own files, its own way of working: so many captions, more than there are images too."""
    folder = write_cs231n(tmp_path)
    flags = ["--model", "rnn", "--num-samples", str(count), "--data", str(folder), "--features", str(folder)]
    flags += ["--epochs", "30", "--warmup-steps", "0", "--device", "cpu", "--learning-rate", "0.01"]
    assert overfit([*flags, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "exact 1.0000" in said
    assert "val: val1_z.jpg\n  predicted: a green bar\n  true: a green bar" in said
    assert (tmp_path / "run" / "loss.png").stat().st_size > 1000
