"""Word evidence: what a photo says for words, how sentences are ranked with it, and how it is fitted."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from test_beam_search import CHANNELS, EOS, TinyDecoder, search, some_features

from captionbot import Captioner, load_image
from captionbot.decoders.evidence import ALONE, WordEvidence
from captionbot.search.beam import tree
from captionbot.store import card as cards
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features
from training.compress.average import main as average
from training.fit.reranker import (
    LINEAR,
    bags_of_phrases,
    both,
    channels,
    fit,
    main,
    mixed,
    regression,
    scaled,
)
from training.run.captioners import load_to_train
from training.run.splits import Split
from training.run.train import main as train

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def random_evidence(vocabulary, seed=0, size=100.0):
    """For each word alone, and for each pair of a word and the next."""
    torch.manual_seed(seed)
    words = torch.arange(vocabulary)
    phrases = torch.stack([words.repeat(2), torch.cat([torch.full_like(words, ALONE), words + 1])], 1)
    layer = WordEvidence(CHANNELS, len(phrases), 3, linear=2, hidden=4).requires_grad_(False)
    layer.phrases.copy_(phrases)
    layer.say.weight *= size
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
        rounded = layer.of_means(features.values.float().mean(1))
        found = layer(features)
    assert torch.equal(found, layer(features))
    assert not torch.equal(rounded.float(), found)


def test_finished_sentences_are_ranked_by_probability_and_evidence():
    features = some_features(8)
    plain, decoder = searched_without_evidence(features, 5)
    weighed = search(decoder, features, beam_size=5, num_return=5)
    says = decoder.evidence(features).numpy()
    changed = pairs = 0
    for image, (before, after) in enumerate(zip(plain.hypotheses, weighed.hypotheses, strict=True)):
        assert {h.token_ids: h.log_prob for h in after} == {h.token_ids: h.log_prob for h in before}
        for h in after:
            follows = {12 + a for a, b in pairwise(h.token_ids) if b == a + 1}
            expected = says[image, sorted({*h.token_ids, *follows})].sum()
            assert h.evidence == pytest.approx(expected, abs=1e-5)
            pairs += len(follows)
            assert h.score == pytest.approx((h.log_prob + h.evidence) / (len(h.token_ids) + 1) ** 0.7)
        assert [h.score for h in after] == sorted((h.score for h in after), reverse=True)
        changed += before[0].token_ids != after[0].token_ids
        winner = tuple(
            node.token_id for node in tree(weighed, image) if node.rank == 0 and node.token_id != EOS
        )
        assert winner == after[0].token_ids
    assert changed and pairs


def test_a_phrase_is_said_once_and_what_is_not_known_has_no_say():
    layer = random_evidence(4)
    assert layer.said([]) == []
    assert layer.said([2, 3, 2, 3]) == [2, 3, 6]  # the words, and "2 3"
    assert layer.said([3, 9, 1]) == [1, 3]


def test_evidence_can_be_left_out_and_a_broken_one_ranks_nothing():
    features = some_features(2)
    plain, decoder = searched_without_evidence(features, 4)
    for found in (search(decoder, features, beam_size=4, num_return=4, evidence=False), plain):
        assert [[(h.token_ids, h.score, h.evidence) for h in image] for image in found.hypotheses] == [
            [(h.token_ids, h.score, 0) for h in image] for image in plain.hypotheses
        ]
    decoder.evidence.say.bias.fill_(torch.nan)
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


def of_two_kinds():
    """Features of 300 photos and their shares: phrase 0 goes with the first number, phrase 1 against it,
    phrase 2 with all photos, phrase 3 with the product of two numbers, which no line finds."""
    torch.manual_seed(0)
    means = torch.randn(300, 6) * torch.tensor([5.0, 1, 1, 1, 0.1, 0]) + 3
    shares = torch.zeros(300, 4)
    shares[:, 0] = (means[:, 0] > 3).float() * 0.8
    shares[:, 1] = (means[:, 0] < 3).float() * 0.8
    shares[:, 2] = 0.5
    shares[:, 3] = ((means[:, 1] - 3) * (means[:, 2] - 3) > 0).float()
    return means, torch.tensor([[4, ALONE], [5, ALONE], [6, ALONE], [4, 5]], dtype=torch.int32), shares


def test_fitting_finds_what_features_say_of_words_and_pairs():
    means, phrases, shares = of_two_kinds()
    seen = torch.stack([means, means])
    layer = fit(seen, phrases, shares, hidden=64, rank=4, seed=1)
    assert torch.equal(layer.phrases, phrases)
    says = layer(Features(means.unsqueeze(1), torch.zeros(1, 1, 4)))
    with_it, against_it = means[:, 0] > 6, means[:, 0] < 0
    assert (says[with_it, 0] > 0.5).all() and (says[against_it, 0] < -0.5).all()
    assert (says[with_it, 1] < -0.5).all() and (says[against_it, 1] > 0.5).all()
    assert says[:, 2].abs().mean() < 0.2
    assert np.corrcoef(says[:, 3], shares[:, 3])[0, 1] > 0.5
    again = fit(seen, phrases, shares, hidden=64, rank=4, seed=1)
    torch.testing.assert_close(again(Features(means.unsqueeze(1), torch.zeros(1, 1, 4))), says)


def test_fitted_without_a_network_it_is_a_linear_detector_of_words():
    means, phrases, shares = of_two_kinds()
    layer = fit(torch.stack([means, means]), phrases, shares, hidden=0, rank=4, seed=1)
    assert torch.equal(layer.phrases, phrases[:3])
    says = layer.of_means(means)
    with_it, against_it = means[:, 0] > 6, means[:, 0] < 0
    assert (says[with_it, 0] > 0.5).all() and (says[against_it, 0] < -0.5).all()
    halfway = layer.of_means((means[:1] + means[1:2]) / 2)
    torch.testing.assert_close(halfway[0], says[:2].mean(0), atol=0.05, rtol=0)  # a feature is constant


def test_the_regression_is_kernel_ridge_regression():
    means, _, shares = of_two_kinds()
    seen = (means - means.mean(0)) / (means.std(0) + 1e-6)
    photos, others = seen[:200].double(), seen[200:].double()
    said, usual = shares[:200].double(), shares[:200].double().mean(0)
    squares = torch.cdist(photos, photos).square()
    kernel = torch.exp(-squares / squares.median())
    weights = torch.linalg.inv(kernel + 0.1 * torch.eye(200)) @ (said - usual)
    near = torch.exp(-torch.cdist(others, photos).square() / squares.median())
    share = (usual + near @ weights).clamp(0, 1)
    expected = torch.log((share + 0.02) / (1.02 - share)) - torch.log((usual + 0.02) / (1.02 - usual))
    found = regression(seen[:200], shares[:200])(others.float())
    torch.testing.assert_close(found, expected.float(), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("linear", [False, True])
def test_two_layers_of_evidence_are_one(linear):
    torch.manual_seed(0)
    one = random_evidence(12)
    other = WordEvidence(CHANNELS + 5, 4, 3, *(() if linear else (1, 2))).requires_grad_(False)
    other.phrases.copy_(torch.tensor([[3, ALONE], [3, 9], [11, 2], [0, ALONE]], dtype=torch.int32))
    whole = both(scaled(one, 0.5), other)
    means = torch.randn(6, CHANNELS + 5)
    found = whole.of_means(means)
    expected: dict[tuple[int, ...], torch.Tensor] = {}
    for part, values in ((one, one.of_means(means[:, :CHANNELS])), (other, other.of_means(means))):
        for phrase, column in zip(part.phrases.tolist(), values.T, strict=True):
            expected[tuple(phrase)] = expected.get(tuple(phrase), 0) + column
    assert len(whole.phrases) == len(expected)
    for phrase, column in zip(whole.phrases.tolist(), found.T, strict=True):
        torch.testing.assert_close(column, expected[tuple(phrase)], rtol=1e-4, atol=1e-4)


def test_mixtures_lie_between_photos():
    torch.manual_seed(0)
    one, other = torch.zeros(1, 50), torch.ones(1, 50)
    mixtures = mixed(torch.stack([one, other]), 400)
    whole = (mixtures == mixtures[:, :1]).all(1)
    assert 100 < whole.sum() < 350  # by one proportion, or both the same photo
    assert ((mixtures >= 0) & (mixtures <= 1)).all()
    assert set(mixtures[~whole].unique().tolist()) == {0.0, 1.0}


def test_phrases_are_words_and_neighbours_that_enough_photos_have():
    vocabulary = Vocabulary.build([["a", "red", "wall"], ["the", "wall"]], min_count=1)
    a, red, wall, the = (vocabulary.require([word])[0] for word in ("a", "red", "wall", "the"))
    split = Split(
        ["1", "2"], [[["a", "red", "wall"], ["a", "red", "red", "car"]], [["the", "wall"], ["a", "wall"]]]
    )
    phrases, shares = bags_of_phrases(split, vocabulary, 2)
    assert {tuple(p) for p in phrases.tolist()} == {(a, ALONE), (wall, ALONE)}
    phrases, shares = bags_of_phrases(split, vocabulary, 1)
    share = {tuple(p): s for p, s in zip(phrases.tolist(), shares.T.tolist(), strict=True)}
    assert share[red, red] == [0.5, 0] and share[a, red] == [1, 0] and share[the, wall] == [0, 0.5]
    assert share[red, ALONE] == [1, 0] and all(vocabulary.unk_id not in phrase for phrase in share)


@pytest.fixture
def few_steps(monkeypatch):
    """Plain colours are learnt sooner than photos."""
    monkeypatch.setattr("training.fit.reranker.LEAST_STEPS", 240)


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
        "decoder-config": "{embedding_size: 64, hidden_size: 64, attention_size: 32}",
        "image-size": 64,
        "epochs": 8,
        "limit": 0,
        "min-count": 1,
        "name": "walls",
    }
    assert train([text for name, value in flags.items() for text in (f"--{name}", str(value))]) == 0
    return out


@pytest.mark.usefixtures("few_steps")
def test_the_command_adds_evidence_to_a_captioner_that_keeps_it(run, data, tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "with"), "--data", str(data), "--cache", str(run / "cache")]
    fitted = ["--hidden", "16", "--rank", "4", "--mixtures", "4000", "--epochs", "6", "--min-count", "5"]
    assert main([str(run), *arguments, *fitted]) == 0
    path = tmp_path / "with" / "walls.json"
    card = cards.Card.load(path)
    sizes = dict(card.evidence)
    phrases = sizes.pop("phrases")
    assert sizes == {"rank": LINEAR + 4, "linear": LINEAR, "hidden": 16}
    weight = card.training["evidence"]["weight"]
    scores = card.training["evidence"]["CIDEr on val"]
    assert scores[f"{weight:g}"] == max(scores.values()) > scores["0"] + 0.5
    assert f"{weight:g}: {max(scores.values()):.4f}" in capsys.readouterr().out
    captioner = Captioner.from_pretrained(path, device="cpu")
    red = captioner.vocabulary.require(["red"])[0]
    blue = captioner.vocabulary.require(["blue"])[0]
    layer = captioner.decoder.evidence
    assert (
        layer.phrases.shape == (phrases, 2)
        and len(layer.said(captioner.vocabulary.encode(["a", "red", "wall"]))) == 5
    )
    says = layer(captioner.encode([load_image(data / f"{i:02}.png") for i in (48, 50)]))
    (red,), (blue,) = layer.said([red]), layer.said([blue])
    assert says[0, red] > says[0, blue] and says[1, blue] > says[1, red]
    stored = cards.save(tmp_path / "small", *cards.load(path), storage="int8-all")
    again = Captioner.from_pretrained(stored, device="cpu", precision="float32").decoder.evidence
    torch.testing.assert_close(again.say.weight, captioner.decoder.evidence.say.weight, rtol=1e-2, atol=1e-3)

    # another captioner gets the same evidence at half the weight, and nothing is fitted
    arguments = ["--out", str(tmp_path / "moved"), "--data", str(data), "--cache", str(run / "cache")]
    assert main([str(run), *arguments, "--beside", str(path), "--weights", "0", "0.5"]) == 0
    card, _, decoder = cards.load(tmp_path / "moved" / "walls.json")
    settings = card.training["evidence"]
    assert (settings["weight"], settings["weight beside"], "hidden" in settings) == (0, 0.5, False)
    before = cards.load(path)[2].evidence
    means = torch.randn(3, channels(before))
    torch.testing.assert_close(decoder.evidence.of_means(means), before.of_means(means) / 2)


def test_training_on_and_averaging_leave_evidence_behind(run, data, tmp_path):
    card, encoder, decoder = cards.load(run / "walls.json")
    decoder.evidence = WordEvidence(decoder.config.feature_size, 5, 2)
    sizes = {"phrases": 5, "rank": 2}
    path = cards.save(tmp_path, dataclasses.replace(card, evidence=sizes), encoder, decoder)
    assert cards.load(path)[2].evidence is not None
    bare, _, without = load_to_train(path)
    assert bare.evidence == {}
    assert without.evidence is None
    config = ["--config", str(run / "config.yaml")]
    assert average([str(path), str(run / "walls.json"), "--out", str(tmp_path / "mean"), *config]) == 0
    assert cards.Card.load(next((tmp_path / "mean").glob("*.json"))).evidence == {}


@pytest.mark.usefixtures("few_steps")
def test_evidence_that_helps_nothing_is_not_kept(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr("training.fit.reranker.WEIGHTS", (0.0,))
    arguments = ["--out", str(tmp_path), "--data", str(data), "--cache", str(run / "cache")]
    assert main([str(run), *arguments, "--hidden", "0", "--min-count", "5"]) == 0
    card, _, decoder = cards.load(tmp_path / "walls.json")
    assert (card.evidence, decoder.evidence, card.training["evidence"]["weight"]) == ({}, None, 0)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--rank", "0"], "rank is 0; give 1 or more."),
        (["--min-count", "0"], "min_count is 0; give 1 or more."),
        (["--epochs", "0"], "epochs is 0; give 1 or more."),
        (["--weights", "0.5", "0.25"], "--weights are 0.5 0.25; give one of 0 or more, and with --beside"),
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
