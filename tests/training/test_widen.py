"""A captioner with another CNN beside its own says what it said; all kinds of encoders share both CNNs."""

import dataclasses
import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import build_region_captioner, build_tiny_captioner, built

from captionbot import Captioner
from captionbot.encoders import ConcatEncoder
from captionbot.store import card as cards
from training.compress.average import _in_one_vocabulary, _mean
from training.run.captioners import load_to_train, with_words
from training.run.widen import main as widen

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
CNN = ("mobilenet_v2", "features.6", 32)  # 8 x 8 places of 64 pixels
SIZES = {"embedding_size": 16, "hidden_size": 16, "normalise": True, "tie_embedding": True}
DECODERS = {
    "soft-attention": SIZES | {"annotation_size": 16, "attention_size": 16},
    "top-down": SIZES | {"annotation_size": 16, "attention_size": 16},
    "show-and-tell": SIZES | {"cell": "gru"},
    "gpt2-prefix": {
        "image_tokens": "queries",
        "prefix_length": 4,
        "hidden_size": 16,
        "layers": 1,
        "heads": 2,
    },
}
PCA = {"kind": "pca", "architecture": CNN[0], "layer": CNN[1], "feature_size": 32, "components": 6}


def louder(encoder):
    """Features of an untrained encoder are tiny."""
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight *= 2
    return encoder


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    """Writes a captioner with a decoder and an encoder of one CNN, that of all of them; returns its card."""
    folder = tmp_path_factory.mktemp("own")
    card, encoder, _ = cards.load(build_tiny_captioner(folder, cnn=CNN))
    cnn = louder(encoder).state_dict()

    def write(decoder, encoder=card.encoder, feature_size=CNN[2]):
        torch.manual_seed(0)
        spec = {"kind": decoder, **DECODERS[decoder], "vocabulary_size": len(card.vocabulary),
                "feature_size": feature_size}  # fmt: skip
        eyes, mouth = built(encoder, spec)
        (eyes if encoder["kind"] == "grid" else eyes.grid).load_state_dict(cnn)
        changed = dataclasses.replace(card, name=decoder, encoder=encoder, decoder=spec, default=False)
        return cards.save(folder, changed, eyes, mouth)

    return write


@pytest.fixture(scope="module")
def both(captioner, tmp_path_factory):
    """A captioner that has another CNN too, as `--architecture` makes it."""
    folder = tmp_path_factory.mktemp("both")
    cnn = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    save_file(cnn.state_dict(), folder / "lite0.safetensors")
    flags = ["--architecture", "tf_efficientnet_lite0", "--layer", "blocks.1", "--size", "32"]
    flags += ["--weights", str(folder / "lite0.safetensors"), "--out", str(folder / "wide")]
    assert widen([str(captioner("soft-attention")), *flags]) == 0
    return folder / "wide"


@pytest.mark.parametrize("decoder", DECODERS)
def test_it_says_what_it_said(captioner, both, decoder, tmp_path):
    path = captioner(decoder)
    if decoder == "soft-attention":
        after = Captioner.from_pretrained(both, "cpu", precision="float32")
    else:
        assert widen([str(path), "--like", str(both), "--out", str(tmp_path / "wide")]) == 0
        after = Captioner.from_pretrained(tmp_path / "wide", "cpu", precision="float32")
    assert isinstance(after.encoder, ConcatEncoder)
    assert tuple(after.card.decoder["groups"]) == (32, 24)
    before = Captioner.from_pretrained(path, "cpu", precision="float32")
    (said,), (now,) = before.caption([PHOTO]), after.caption([PHOTO])
    assert now.captions[0].text == said.captions[0].text
    assert now.captions[0].log_prob == pytest.approx(said.captions[0].log_prob, abs=1e-3)


def test_a_pca_gets_components_of_the_new_channels_behind_its_own(captioner, both, tmp_path, monkeypatch):
    path = captioner("show-and-tell", PCA, 6)
    before = Captioner.from_pretrained(path, "cpu")
    images = []
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
        split, said = "train" if i < 10 else "val", [{"raw": "a dog runs"}]
        images.append({"filename": f"{i}.png", "split": split, "sentences": said})
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    flags = ["--data", str(tmp_path), "--cache", str(tmp_path / "cache"), "--components", "3"]
    assert widen([str(path), "--like", str(both), "--out", str(tmp_path / "wide"), *flags]) == 0
    after = Captioner.from_pretrained(tmp_path / "wide", "cpu")
    own, wide = before.encode([PHOTO]).values, after.encode([PHOTO]).values
    assert wide.shape == (1, 1, 9)
    torch.testing.assert_close(wide[..., :6], own, atol=1e-4, rtol=1e-3)
    assert wide[..., 6:].abs().min() > 0


def test_one_file_holds_both_cnns_of_every_kind_of_encoder(captioner, both, tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "FEW", 2**6)
    _, eyes, _ = cards.load(both / "soft-attention.json")
    cards.save_part(tmp_path / "cnns.safetensors", eyes, "int8-all")
    regions = build_region_captioner(tmp_path / "boxes")
    card, encoder, decoder = cards.load(regions)
    encoder.grid.load_state_dict(eyes.grids[0].state_dict())
    cards.save(tmp_path / "boxes", card, encoder, decoder)
    assert widen([str(regions), "--like", str(both), "--out", str(tmp_path / "regions")]) == 0
    parts = {}
    for path in (both / "soft-attention.json", tmp_path / "regions" / "regions.json"):
        card, encoder, decoder = cards.load(path)
        saved = cards.save(tmp_path, card, encoder, decoder, "int8-all", "cnns.safetensors")
        parts[path.stem] = cards.load(saved)[0].shared["part"]
        assert not [name for name in load_file(saved.with_suffix(".safetensors")) if ".cnn." in name]
    assert parts == {"soft-attention": "encoder.", "regions": "encoder.grid."}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "Give either --like CAPTIONER, or all of"),
        (["--like", "tiny", "--size", "32"], "Give either --like CAPTIONER, or all of"),
        (["--like", "OWN"], "give one with several CNNs, of which the first is mobilenet_v2 to features.6"),
    ],
)
def test_mistakes_are_one_sentence(captioner, flags, sentence, tmp_path, capsys):
    path = str(captioner("soft-attention"))
    flags = [path if flag == "OWN" else flag for flag in flags]
    assert widen([path, *flags, "--out", str(tmp_path / "wide")]) == 2
    assert sentence in capsys.readouterr().err


def test_captioners_of_fewer_words_are_averaged_with_those_of_more(captioner):
    old = load_to_train(captioner("show-and-tell"))
    new = with_words(old[0], old[2], ["pizza", "zebra"])
    with torch.no_grad():
        new[1].output_word.weight[-1] += 2
    (card, _, decoder), (same, _, other) = _in_one_vocabulary([old, (new[0], old[1], new[1])])
    assert card.vocabulary == same.vocabulary == (*old[0].vocabulary, "pizza", "zebra")
    mean = _mean([decoder.state_dict(), other.state_dict()])
    words = old[2].output_word.weight
    torch.testing.assert_close(mean["output_word.weight"][:-1], words[[*range(len(words)), 3]])
    torch.testing.assert_close(mean["output_word.weight"][-1], words[3] + 1)
    assert not decoder.training


def test_what_is_the_same_in_all_keeps_its_bits():
    tensor = torch.tensor([-0.0, 0.1])
    assert _mean([{"w": tensor}, {"w": tensor.clone()}])["w"] is tensor
