"""Several data sets as one, another CNN beside a captioner's own, sentences for photos that have none."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import build_tiny_captioner

from captionbot import CaptionBotError, Captioner, load_image
from captionbot.encoders.grid import GridConfig, GridEncoder
from captionbot.images.load import Preprocessing, squash
from training.data.formats import load_dataset
from training.data.mixture import mixture_images
from training.fit.pseudo import apart, choose, class_words
from training.run.config import TrainingConfig
from training.run.distributed import World
from training.run.features import cached_features, cached_pixels, normalise
from training.run.splits import photos_of, read_splits
from training.run.stages import Reward, repeats
from training.run.validation import Captions


def write_photos(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(names))
    for name in names:
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / name)


@pytest.fixture
def mixture(tmp_path):
    """Four photos of dogs, three of food; of each set the last is val."""
    sets = {"dogs": ["d1.png", "d2.png", "d3.png", "d4.png"], "food": ["f1.png", "f2.png", "f3.png"]}
    for word, names in sets.items():
        write_photos(tmp_path / word, names)
        rows = [
            {"image": n, "captions": [f"{word} on a table", f"some {word}"], "split": s}
            for n, s in zip(names, ["train"] * (len(names) - 1) + ["val"], strict=True)
        ]
        (tmp_path / word / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = tmp_path / "both.mixture.yaml"
    path.write_text(
        f"- {{data: {tmp_path}/dogs, limit: 2}}\n"
        f"- {{name: meals, data: {tmp_path}/food/captions.jsonl, images: ['{tmp_path}/food'], repeat: 3.5}}\n"
    )
    return path


def test_data_sets_are_one(mixture):
    examples = load_dataset(mixture)
    assert [e.source for e in examples] == ["dogs"] * 3 + ["meals"] * 3
    assert len(mixture_images(mixture)) == 7
    config = TrainingConfig(data=str(mixture))
    train, val = read_splits(config)
    assert len(train) == 4 and [n[0] for n in val.names] == ["d", "f"]
    epochs = [train.an_epoch(np.random.default_rng(number)) for number in range(8)]
    for epoch in epochs:
        seen = Counter(train.names[i] for i in epoch)
        assert all(seen.pop(name) == 1 for name in train.names[:2])
        assert sorted(seen.values()) == [3, 4]  # 3.5 times each, on average
    assert {Counter(epoch.tolist())[2] for epoch in epochs} == {3, 4}
    assert "f3.png" in photos_of(config)
    assert val.by_source() == {"dogs": [0], "meals": [1]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data: x", "is no mixture"),
        ("- {limit: 3}", "has neither `data: PATH` nor `images"),
        ("- {data: x, weight: 2}", "no field 'weight'"),
        ("- {data: x, repeat: 0}", "a repeat above 0"),
    ],
)
def test_a_mixture_that_is_none_is_a_sentence(text, sentence, tmp_path):
    path = tmp_path / "x.mixture.yaml"
    path.write_text(text)
    with pytest.raises(CaptionBotError, match=sentence):
        load_dataset(path)


def test_photos_of_one_name_are_refused(mixture, tmp_path):
    (tmp_path / "dogs" / "f1.png").write_bytes((tmp_path / "food" / "f1.png").read_bytes())
    with pytest.raises(CaptionBotError, match="Two images are called"):
        mixture_images(mixture)


def test_each_data_set_has_its_scores(mixture, tmp_path):
    _, val = read_splits(TrainingConfig(data=str(mixture)))
    path = build_tiny_captioner(tmp_path / "tiny")
    captioner = Captioner.from_pretrained(path, "cpu")
    photos = [load_image(mixture.parent / f) for f in ("dogs/d4.png", "food/f3.png")]

    def features(encoder, images):
        pixels = np.stack([squash(photos[i], captioner.preprocessing) for i in images])
        return encoder(normalise(pixels, captioner.preprocessing, torch.device("cpu")))

    scores = Captions(
        TrainingConfig(beam_size=1), captioner.vocabulary, val, features, World(torch.device("cpu"))
    )(captioner.encoder, captioner.decoder)
    foreseen = ["val_loss", "perplexity"]
    parts = ["CIDEr dogs", "CIDEr meals", "Bleu_4 dogs", "Bleu_4 meals"]
    assert list(scores) == [*foreseen, "CIDEr", "Bleu_4", *parts]
    assert scores["CIDEr"] == pytest.approx((scores["CIDEr dogs"] + scores["CIDEr meals"]) / 2)


def test_places_are_hidden_from_what_learns_and_from_nothing_else(mixture, tmp_path):
    preprocessing = Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3)
    names = ["d1.png", "f1.png"]
    pixels, _ = cached_pixels(mixture_images(mixture), names, preprocessing, tmp_path / "cache")
    encoder = GridEncoder(GridConfig("mobilenet_v2", "features.3")).eval()
    cached = cached_features(
        encoder, preprocessing, pixels, False, tmp_path / "cache", torch.device("cpu"), hide=0.5
    )
    images = np.arange(2)
    assert cached(encoder, images).mask is None
    crops = torch.tensor([[1.0] * 6, [0.0] * 6])
    mask = cached(encoder, images, np.zeros(2, bool), crops).mask
    assert 0.3 < mask[0].float().mean() < 0.7 and mask[1].all()


def test_words_that_are_said_again_cost():
    assert repeats(["a", "man", "in", "a", "red", "shirt", "and", "a", "man", "in", "a", "red", "hat"]) == 2
    assert repeats(["a", "dog", "on", "the", "grass", "next", "to", "the", "water"]) == 0
    reward = Reward([[["a", "dog"]]] * 2, {"repeats": 0.5})
    assert reward([["a", "dog"], ["a", "dog", "dog"]], [0, 1]).tolist() == [0, -0.5]


def test_the_sentences_with_the_greatest_odds_are_chosen():
    corpus = [tuple(s.split()) for s in ("a cat on a bed", "a red car", "a cat in a car", "a dog on grass")]
    phrases = {"cat": 0, "car": 1, "dog": 2}
    said = [[phrases[w] for w in words if w in phrases] for words in corpus]
    odds = torch.tensor([[2.0, 1.0, -1.0], [-1.0, 0.5, 3.0]])
    found = choose(["x", "y"], corpus, said, odds, None, 1)
    assert found == {"x": ["a cat in a car"], "y": ["a dog on grass"]}
    found = choose(["x", "y"], corpus, said, odds, {"x": ["dog"], "y": ["lion"]}, 2)
    assert found == {"x": ["a dog on grass"]}


def test_sentences_of_a_photo_are_not_one_said_twice():
    sentences = ("a cat on a bed", "a cat on the bed", "two boys playing ball")
    corpus = [sentence.split() for sentence in sentences]
    assert apart([0, 1, 2], corpus, 2) == [0, 2]


def test_classes_are_called_what_captions_call_them(tmp_path):
    file = tmp_path / "labels.jsonl"
    rows = [("n02123045", "tabby"), ("n04146614", "school bus"), ("n02672831", "accordion")]
    file.write_text("\n".join(json.dumps({"image": w, "wnid": w, "label": n}) for w, n in rows))
    words = class_words(file, Counter(bus=99, accordion=1))
    assert words == {"n02123045": ["cat", "cats"], "n04146614": ["bus", "buss"], "n02672831": []}
