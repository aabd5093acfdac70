"""Word evidence: what a photo says for words, how sentences are ranked with it, and how it is fitted."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from captionbot import Captioner, load_image
from captionbot import card as cards
from captionbot.beam_search import tree
from captionbot.decoders import WordEvidence
from captionbot.types import Features
from tests.test_beam_search import CHANNELS, EOS, TinyDecoder, search, some_features
from training.average import main as average
from training.captioners import load_to_train
from training.evidence import bags_of_words, fit, main
from training.splits import Split
from training.train import main as train

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def random_evidence(vocabulary, seed=0, size=10.0):
    torch.manual_seed(seed)
    layer = WordEvidence(CHANNELS, vocabulary, 3).requires_grad_(False)
    layer.words.weight *= size
    return layer


def searched_without_evidence(features, beams):
    """What a decoder finds, and the decoder, which has evidence from then on."""
    decoder = TinyDecoder(vocabulary=12).eval()
    plain = search(decoder, features, beam_size=beams, num_return=beams)
    decoder.evidence = random_evidence(12)
    return plain, decoder


def test_evidence_is_not_rounded_where_a_gpu_rounds():
    layer, features = random_evidence(12), some_features(8)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer.words(layer.reduce(features.values.float().mean(1)))
        found = layer(features)
    assert torch.equal(found, layer(features))
    assert not torch.equal(rounded.float(), found)


def test_finished_sentences_are_ranked_by_probability_and_evidence():
    features = some_features(8)
    plain, decoder = searched_without_evidence(features, 5)
    weighed = search(decoder, features, beam_size=5, num_return=5)
    says = decoder.evidence(features).numpy()
    changed = 0
    for image, (before, after) in enumerate(zip(plain.hypotheses, weighed.hypotheses, strict=True)):
        assert {h.token_ids: h.log_prob for h in after} == {h.token_ids: h.log_prob for h in before}
        for h in after:
            assert h.evidence == pytest.approx(says[image, sorted(set(h.token_ids))].sum(), abs=1e-5)
            assert h.score == pytest.approx((h.log_prob + h.evidence) / (len(h.token_ids) + 1) ** 0.7)
        assert [h.score for h in after] == sorted((h.score for h in after), reverse=True)
        changed += before[0].token_ids != after[0].token_ids
        winner = tuple(
            node.token_id for node in tree(weighed, image) if node.rank == 0 and node.token_id != EOS
        )
        assert winner == after[0].token_ids
    assert changed


def test_evidence_can_be_left_out_and_a_broken_one_ranks_nothing():
    features = some_features(2)
    plain, decoder = searched_without_evidence(features, 4)
    for found in (search(decoder, features, beam_size=4, num_return=4, evidence=False), plain):
        assert [[(h.token_ids, h.score, h.evidence) for h in image] for image in found.hypotheses] == [
            [(h.token_ids, h.score, 0) for h in image] for image in plain.hypotheses
        ]
    decoder.evidence.words.bias.fill_(torch.nan)
    broken = search(decoder, features, beam_size=4, num_return=4)
    assert [[h.token_ids for h in image] for image in broken.hypotheses] == [
        [h.token_ids for h in image] for image in plain.hypotheses
    ]


def test_places_that_do_not_exist_have_no_say():
    layer = random_evidence(7)
    values = torch.randn(1, 5, CHANNELS)
    mask = torch.tensor([[True, True, True, False, False]])
    masked = layer(Features(values, torch.zeros(1, 5, 4), mask=mask))
    torch.testing.assert_close(masked, layer(Features(values[:, :3], torch.zeros(1, 3, 4))))


def test_fitting_finds_what_features_say_of_words_and_nothing_of_rare_ones():
    """Word 4 goes with the first number, word 5 against it, word 6 with all photos, word 7 is rare."""
    torch.manual_seed(0)
    means = torch.randn(600, 6) * torch.tensor([5.0, 1, 1, 1, 0.1, 0]) + 3
    bags = torch.zeros(600, 9)
    bags[:, 4] = (means[:, 0] > 3).float() * 0.8
    bags[:, 5] = (means[:, 0] < 3).float() * 0.8
    bags[:, 6] = 0.5
    bags[:14, 7] = 1
    layer = fit(means, bags, rank=4, min_count=15, seed=1)
    says = layer(Features(means.unsqueeze(1), torch.zeros(1, 1, 4)))
    assert (says[:, [0, 1, 2, 3, 7, 8]] == 0).all()
    with_it, against_it = means[:, 0] > 6, means[:, 0] < 0
    assert (says[with_it, 4] > 0.5).all() and (says[against_it, 4] < -0.5).all()
    assert (says[with_it, 5] < -0.5).all() and (says[against_it, 5] > 0.5).all()
    assert says[:, 6].abs().max() < 0.5
    torch.testing.assert_close(fit(means, bags, rank=4, min_count=15, seed=1)(
        Features(means.unsqueeze(1), torch.zeros(1, 1, 4))), says)  # fmt: skip


def write_walls(folder, named):
    """Plain photos of three colours, and captions that name the colour `named` says of a photo's number."""
    rng, images = np.random.default_rng(0), []
    for i in range(60):
        photo = np.clip(rng.normal(COLOURS[list(COLOURS)[i % 3]], 12, (64, 64, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(photo).save(folder / f"{i:02}.png")
        sentences = [{"raw": f"a {named(i)} wall"}, {"raw": f"the wall is {named(i)}"}] * 2
        images.append(
            {"filename": f"{i:02}.png", "split": "train" if i < 48 else "val", "sentences": sentences}
        )
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_walls(tmp_path_factory.mktemp("colours"), lambda i: list(COLOURS)[i % 3])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A captioner of the sentences, learnt from captions whose colours have nothing to do with the photos."""
    names = np.random.default_rng(1).choice(list(COLOURS), 60)
    data = write_walls(tmp_path_factory.mktemp("names"), lambda i: names[i])
    out = tmp_path_factory.mktemp("run")
    flags = {
        "config": "overfit-20",
        "data": data,
        "out": out,
        "cache": out / "cache",
        "encoder-config": "{architecture: mobilenet_v2, layer: features.4}",
        "encoder-weights": "",
        "image-size": 64,
        "epochs": 8,
        "limit": 0,
        "min-count": 1,
        "name": "walls",
    }
    assert train([text for name, value in flags.items() for text in (f"--{name}", str(value))]) == 0
    return out


def test_the_command_adds_evidence_to_a_captioner_that_keeps_it(run, data, tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "with"), "--data", str(data), "--cache", str(run / "cache")]
    assert main([str(run), *arguments, "--rank", "4", "--min-count", "5"]) == 0
    path = tmp_path / "with" / "walls.json"
    card = cards.Card.load(path)
    assert card.evidence == {"rank": 4}
    weight = card.training["evidence"]["weight"]
    scores = card.training["evidence"]["CIDEr on val"]
    assert scores[f"{weight:g}"] == max(scores.values()) > scores["0"] + 0.5
    assert f"{weight:g}: {max(scores.values()):.4f}" in capsys.readouterr().out
    captioner = Captioner.from_pretrained(path, device="cpu")
    red = captioner.vocabulary.require(["red"])[0]
    blue = captioner.vocabulary.require(["blue"])[0]
    says = captioner.decoder.evidence(captioner.encode([load_image(data / f"{i:02}.png") for i in (48, 50)]))
    assert says[0, red] > says[0, blue] and says[1, blue] > says[1, red]
    stored = cards.save(tmp_path / "small", *cards.load(path), storage="int8-all")
    again = Captioner.from_pretrained(stored, device="cpu", precision="float32").decoder.evidence
    torch.testing.assert_close(
        again.words.weight, captioner.decoder.evidence.words.weight, rtol=1e-2, atol=1e-3
    )


def test_training_on_and_averaging_leave_evidence_behind(run, data, tmp_path):
    card, encoder, decoder = cards.load(run / "walls.json")
    decoder.evidence = WordEvidence(decoder.config.feature_size, decoder.config.vocabulary_size, 2)
    path = cards.save(tmp_path, dataclasses.replace(card, evidence={"rank": 2}), encoder, decoder)
    assert cards.load(path)[2].evidence is not None
    bare, _, without = load_to_train(path)
    assert bare.evidence == {}
    assert without.evidence is None
    config = ["--config", str(run / "config.yaml")]
    assert average([str(path), str(run / "walls.json"), "--out", str(tmp_path / "mean"), *config]) == 0
    assert cards.Card.load(next((tmp_path / "mean").glob("*.json"))).evidence == {}


def test_evidence_that_helps_nothing_is_not_kept(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr("training.evidence.WEIGHTS", (0.0,))
    arguments = ["--out", str(tmp_path), "--data", str(data), "--cache", str(run / "cache")]
    assert main([str(run), *arguments, "--min-count", "5"]) == 0
    card, _, decoder = cards.load(tmp_path / "walls.json")
    assert (card.evidence, decoder.evidence, card.training["evidence"]["weight"]) == ({}, None, 0)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--rank", "0"], "rank is 0; give 1 or more."),
        (["--min-count", "0"], "min_count is 0; give 1 or more."),
        (["--seed", "-1"], "seed is -1; give 0 or more."),
        (["--limit", "-1"], "limit is -1; give 0 or more."),
        (["--out", "/proc/x/y"], "The folder /proc/x/y cannot be made"),
    ],
)
def test_mistakes_are_one_sentence(flags, sentence, run, data, tmp_path, capsys):
    assert main([str(run), "--out", str(tmp_path), "--data", str(data), *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_no_word_that_is_said_often_enough_is_one_sentence(run, data, tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--data", str(data), "--cache", str(run / "cache")]
    assert main([str(run), *arguments, "--min-count", "49"]) == 2
    assert "give more photos, or a lower --min-count" in capsys.readouterr().err


def test_bags_count_the_captions_that_say_a_word(run):
    vocabulary = Captioner.from_pretrained(run / "walls.json", device="cpu").vocabulary
    split = Split(["x"], [[["a", "red", "red", "wall"], ["a", "wall"], ["unheard"], ["wall"]]])
    bag = bags_of_words(split, vocabulary)[0]
    said = {vocabulary.tokens[i]: bag[i].item() for i in bag.nonzero().flatten().tolist()}
    assert said == {"a": 0.5, "red": 0.25, "wall": 0.75}
