"""The probability that a caption is right: its signals, its fit and its bands."""

import numpy as np
import pytest

from captionbot.search.confidence import Confidence, doubtful_word, signals
from captionbot.types import Hypothesis
from training.fit.confidence import fitted, held_out, logistic, report, sigmoid


def sentence(ids, log_probs, score, evidence=0.0):
    log_probs = np.array(log_probs)
    alphas = np.full((len(log_probs), 1), 1.0)
    return Hypothesis(tuple(ids), log_probs, alphas, float(log_probs.sum()), score, evidence)


FOUND = [sentence([5, 6, 7], [-1, -3, -0.5, -0.5], -1.2, 6.0), sentence([5, 6, 8], [-2] * 4, -2.0),
         sentence([9, 8], [-3] * 3, -2.5)]  # fmt: skip


def test_signals_are_what_the_search_knows_of_its_best_sentence():
    expected = {"mean": -1.25, "least": -3, "margin": 0.8, "agreement": 1 / 3, "evidence": 2, "length": 3}
    assert signals(FOUND) == pytest.approx(expected)
    alone = signals([sentence([], [-0.1], -0.1)])
    assert (alone["margin"], alone["agreement"], alone["length"]) == (0, 1, 0)


def test_the_doubtful_word_is_a_word_and_not_the_end():
    assert doubtful_word(FOUND[0]) == 1
    assert doubtful_word(sentence([5, 6], [-1, -2, -9], -3)) == 1


def test_probabilities_and_bands():
    confidence = Confidence({"mean": 2.0, "margin": -1.0}, 3.0, (0.5, -0.5), sure=0.6, unsure=0.3)
    logit = 3 - 2.5 - 0.8 + 0.5 * 1 - 0.5 * 3
    p = confidence.probability(FOUND, np.array([1.0, 3.0]))
    assert p == pytest.approx(1 / (1 + np.exp(-logit)))
    assert [confidence.band(x) for x in (0.7, 0.6, 0.5, 0.1)] == ["sure", "sure", "unsure", "unknown"]
    with pytest.raises(ValueError, match="2 numbers"):
        confidence.probability(FOUND)


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


def test_a_report_has_the_regression_and_what_each_signal_gives():
    inputs, correct = some_answers()
    rows = [{"mean": a, "margin": b} for a, b, _ in inputs]
    told = fitted(rows, inputs[:, 2:], correct)
    assert list(told["held out"]) == [
        "the mean log-probability alone", "the search's signals", "those and what the photo is like"
    ]  # fmt: skip
    found = Confidence(**told["confidence"])
    assert found.weights["mean"] > 0 > found.weights["margin"]
    assert told["chosen"] == "the search's signals" and found.photo == ()  # the photo's number says nothing
