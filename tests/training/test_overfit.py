"""The demonstration on a few captions, on pictures so plain that it takes seconds."""

import json

import numpy as np
import pytest
from PIL import Image

from training.run.overfit import loss_curve, main, photo_sheet, read_losses

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}


@pytest.fixture
def data(tmp_path):
    images = []
    for i, (colour, pixels) in enumerate(COLOURS.items()):
        for split in ("train", "val"):
            Image.new("RGB", (64, 64), pixels).save(tmp_path / f"{split}{i}.png")
            raw = f"The sky is {colour} ." if split == "train" else f"A {colour} wall ."
            images.append({"filename": f"{split}{i}.png", "split": split, "sentences": [{"raw": raw}] * 5})
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    return tmp_path


@pytest.mark.parametrize("model", ["rnn", pytest.param("transformer", marks=pytest.mark.slow)])
def test_a_few_captions_are_learnt_and_drawn(model, data, capsys):
    flags = ["--model", model, "--num-samples", "3", "--data", str(data), "--cache", str(data / "cache")]
    flags += [
        "--encoder",
        "grid",
        "--encoder-config",
        "{architecture: mobilenet_v2, layer: features.3}",
        "--encoder-weights",
        "",
    ]
    flags += ["--image-size", "64", "--epochs", "30", "--warmup-steps", "0", "--device", "cpu"]
    assert main([*flags, "--out", str(data / "run")]) == 0
    assert "exact 1.0000" in capsys.readouterr().out
    steps, losses = read_losses(data / "run")
    assert steps == list(range(1, 31))  # one batch an epoch
    assert losses[-1] < losses[0] / 10
    for name in ("loss.png", "photos.png"):
        assert np.asarray(Image.open(data / "run" / name)).std() > 5  # something is drawn


def test_drawings_say_what_was_predicted_and_what_is_true():
    photo = Image.new("RGB", (8, 8))
    figure = photo_sheet([("train: 1.jpg", photo, "a dog", "A cat"), ("val: 2.jpg", photo, "$x_1$", "b")])
    texts = [axes.texts[0].get_text() for axes in figure.axes]
    assert texts == ["predicted: A dog.\ntrue: A cat.", "predicted: $x_1$.\ntrue: B."]
    (axes,) = loss_curve([1, 2], [3.0, 0.5]).axes
    assert axes.lines[0].get_ydata().tolist() == [3.0, 0.5]


def test_mistakes_are_one_sentence(capsys, tmp_path):
    assert main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
