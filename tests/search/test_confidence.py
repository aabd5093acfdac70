"""A captioner's judgement of its captions: signals, the block of its card, bands and reasons, and the fit."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from captionbot.captioner import Captioner
from captionbot.decoders.evidence import ALONE, WordEvidence
from captionbot.errors import CaptionBotError
from captionbot.search.confidence import DISAGREE, SIGNALS, UNLIKE, Confidence, Judge
from captionbot.store import card as cards
from captionbot.text.general import GENERAL, kinds
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features, Hypothesis, Size
from tests.tiny import build_tiny_captioner
from training.fit.confidence import held_out, logistic, names_subject, report, sigmoid

WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", "a", "dog", "frisbee", "runs", "cat")
DOG, FRISBEE, RUNS, CAT = 5, 6, 7, 8


def sentence(ids, log_probs, score):
    log_probs = np.array(log_probs, float)
    return Hypothesis(tuple(ids), log_probs, np.ones((len(log_probs), 1)), float(log_probs.sum()), score)


FOUND = [
    sentence([4, DOG, RUNS, FRISBEE], [-0.1, -1, -0.5, -3, -0.2], -1.0),
    sentence([4, DOG], [-0.1, -1, -2], -1.5),
]


def confidence_of(weights=None, **changes):
    signals = np.array([(weights or {}).get(name, 0.0) for name in SIGNALS])
    one = np.ones(2, np.float32)
    base = Confidence(
        np.zeros(len(SIGNALS)), signals, 0.0, 0.6, 0.3, (0.0, 1.0, 1.0), dict.fromkeys(GENERAL, -9.0),
        1.0, 0.5, np.zeros((1, 2), np.float32), one, 5.0,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def judge_of_words(confidence, evidence=(2.0, -1.0, 0.5, 1.0)):
    """A judge whose photos all have the evidence given for dog, frisbee, runs and cat."""
    layer = WordEvidence(2, 4, 2)
    layer.phrases.copy_(torch.tensor([[word, ALONE] for word in (DOG, FRISBEE, RUNS, CAT)]))
    with torch.no_grad():
        layer.reduce.weight.copy_(torch.eye(2))
        layer.reduce.bias.zero_()
        layer.say.weight.zero_()
        layer.say.bias.copy_(torch.tensor(evidence))
    return Judge(confidence, layer, Vocabulary(WORDS))


def judged(confidence, photo=(0.0, 0.0), found=FOUND, **evidence):
    features = Features(torch.tensor([[photo]]), torch.tensor([[[0.0, 0, 1, 1]]]))
    return judge_of_words(confidence, **evidence).judge(features, [found], 9)[0]


def test_signals_are_what_search_and_photo_know_of_a_sentence():
    judge = judge_of_words(confidence_of())
    values = dict(zip(SIGNALS, judge.signals(FOUND, 0, np.array([2.0, -1.0, 0.5, 1.0]), 0.7), strict=True))
    expected = {
        "mean": -0.96, "content": -1.5, "least": -3, "evidence": 1.5 / 4, "strongest": 2, "weakest": -1,
        "nouns": 0.5, "length": 4, "margin": 0.5, "agreement": 0.5, "top": 2, "unsaid": 1, "distance": 0.7,
    }  # fmt: skip
    assert values == pytest.approx(expected)
    alone = dict(zip(SIGNALS, judge.signals(FOUND[:1], 0, np.zeros(4), 0.0), strict=True))
    assert np.isnan(alone["margin"]) and np.isnan(alone["agreement"])  # nobody to agree with: not "all agree"


def test_bands_reasons_and_the_doubtful_word():
    assert judged(confidence_of(bias=1.0))[0].band == "sure"
    assert judged(confidence_of(bias=1.0))[0].doubtful_word is None
    best, second = judged(confidence_of({"least": 0.5}))
    assert (best.band, best.reason, best.doubtful_word) == ("unsure", "the word “frisbee” is doubtful", 3)
    assert second.doubtful_word == 1
    usual = np.array([float(name == "agreement") for name in SIGNALS])  # others mostly say all its words
    assert judged(confidence_of({"agreement": 1.0}, bias=-1.0, usual=usual))[0].reason == DISAGREE
    unlike = judged(confidence_of({"distance": -1.0}), (3.0, 0.0))[0]
    assert (unlike.band, unlike.reason) == ("unknown", UNLIKE)
    assert (
        judged(confidence_of({"least": 0.1}), (30.0, 0.0))[0].reason == UNLIKE
    )  # beyond all that was learned


def test_a_general_word_is_offered_where_its_nouns_together_are_sure():
    general = dict.fromkeys(GENERAL, -9.0) | {"an animal": -1.0}
    offered = judged(confidence_of(bias=-0.1, general=general))[0]
    together = np.log(np.exp(2) + np.exp(1))  # dog and cat
    assert (offered.general, offered.general_probability) == (
        "an animal",
        pytest.approx(1 / (1 + np.exp(1 - together))),
    )
    assert judged(confidence_of(bias=-0.1))[0].general == ""
    assert kinds("pizzas") == ("food",) and kinds("idea") == ()


def test_a_card_keeps_the_block_and_a_damaged_one_is_refused(tmp_path):
    path = build_tiny_captioner(tmp_path)
    card, encoder, decoder = cards.load(path)
    decoder.evidence = WordEvidence(decoder.config.feature_size, 4, 2)
    decoder.evidence.phrases.copy_(torch.tensor([[word, ALONE] for word in (5, 6, 7, 8)]))
    block = confidence_of(bias=-1.0).block()
    assert Confidence.read(block).block() == block
    path = cards.save(
        tmp_path,
        dataclasses.replace(card, evidence=decoder.evidence.sizes, confidence=block),
        encoder,
        decoder,
    )
    captioner = Captioner.from_pretrained(path, device="cpu")
    features = captioner.encode([Image.new("RGB", (40, 30), "red")])
    captions = captioner.caption_features(features, [Size(40, 30)], captioner.options(num_return=3))[
        0
    ].captions
    assert len(captions) == 3
    assert {caption.judgement.band for caption in captions} == {"unsure"}
    for name, value in (("version", 2), ("spread", "AA"), ("bias", float("nan")), ("signals", {})):
        dataclasses.replace(card, evidence=decoder.evidence.sizes, confidence=block | {name: value}).write(
            path
        )
        with pytest.raises(CaptionBotError, match=r"cannot be loaded|not the card"):
            cards.skeleton(path)


def test_what_names_the_subject():
    people = [["two", "puppies", "play"], ["an", "animal", "on", "grass"]]
    assert names_subject(["a", "brown", "cat", "runs"], people)  # of the same kind
    assert not names_subject(["a", "man", "on", "grass"], people)
    assert names_subject(["a", "group", "of", "dogs"], people)


def some_answers(n=600):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(n, 3)) * [1, 5, 0.1] + [0, 20, 3]
    logits = 1.5 * inputs[:, 0] - 0.3 * (inputs[:, 1] - 20)
    return inputs, rng.random(n) < sigmoid(logits)


def test_the_fit_is_the_regression_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    inputs, correct = some_answers()
    weights, bias = logistic(inputs, correct, 2.0)
    spread = inputs.std(0)
    theirs = linear_model.LogisticRegression(C=0.5, tol=1e-10).fit(
        (inputs - inputs.mean(0)) / spread, correct
    )
    np.testing.assert_allclose(weights, theirs.coef_[0] / spread, rtol=1e-4, atol=1e-6)
    probabilities = theirs.predict_proba((inputs - inputs.mean(0)) / spread)[:, 1]
    np.testing.assert_allclose(sigmoid(inputs @ weights + bias), probabilities, rtol=1e-4)


def test_held_out_probabilities_are_calibrated_and_rank():
    inputs, correct = some_answers()
    p, _ = held_out(inputs, correct)
    told = report(p, correct)
    assert told["AUC"] > 0.8 and told["expected calibration error"] < 0.07
    risks = list(told["risk by coverage"].values())
    assert risks[0] < 0.1 and risks[-1] == pytest.approx(1 - correct.mean())
    assert report(np.random.default_rng(1).random(600), correct)["AUC"] == pytest.approx(0.5, abs=0.06)
