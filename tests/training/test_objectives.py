"""What a step learns from and how fast, diversity of captions, and caches: parts of a run by themselves."""

from __future__ import annotations

import math
import os
import time
from itertools import pairwise

import numpy as np
import pytest
import torch

from captionbot import CaptionBotError
from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features
from training.metrics.diversity import SelfCider, diversity
from training.run.config import TrainingConfig
from training.run.features import tidy
from training.run.learner import scheduled
from training.run.losses import self_critical_loss, structured_loss, teacher_force

SPECIAL = Vocabulary.special_ids


def drawn():
    """Three samples of each of two images along a decoder, and the log-probability of each sample."""
    torch.manual_seed(0)
    decoder = SoftAttentionDecoder(
        SoftAttentionConfig(9, 4, embedding_size=6, hidden_size=6, attention_size=6)
    ).eval()
    features = Features(torch.randn(2, 5, 4), torch.rand(1, 5, 4))
    token_ids = torch.tensor([[1, 4, 2, 0], [1, 5, 6, 2], [1, 7, 2, 0]]).repeat(2, 1, 1)
    forced = teacher_force(decoder, features, token_ids)
    log_probs = torch.zeros(2, 3)
    for image in range(2):
        for sample in range(3):
            state = decoder.start(Features(features.values[image : image + 1], features.boxes))
            ids = [i for i in token_ids[image, sample].tolist() if i]
            for word, following in pairwise(ids):
                output, _, state = decoder.advance(torch.tensor([word]), state)
                logits = decoder.logits(output)[0].index_fill(0, torch.tensor(list(SPECIAL)), -torch.inf)
                log_probs[image, sample] += logits.log_softmax(-1)[following]
    return decoder, forced, log_probs


def test_risk_is_the_expected_cost_of_the_samples_among_themselves():
    _, forced, log_probs = drawn()
    rewards = torch.tensor([[2.0, 0.5, 0.1], [0.0, 1.0, 0.2]])
    expected = -(log_probs.softmax(1) * rewards).sum(1).mean()
    term = structured_loss("risk", forced, rewards, 1.0, SPECIAL)
    torch.testing.assert_close(term.mean, expected)
    assert term.count == 2


def test_losses_of_whole_samples_are_their_sums_written_out():
    """Of two images; the likeliest sample of the first is not the best one, that of the second is."""
    _, forced, log_probs = drawn()
    s = log_probs.tolist()
    likeliest = [max(range(3), key=row.__getitem__) for row in s]
    rewards = torch.tensor([[0.3, 0.5, 0.1], [0.0, 0.4, 0.2]])
    rewards[0, likeliest[0]], rewards[1, likeliest[1]] = 0.0, 1.5
    nll, softmax, hinge = [], [], []
    for row, reward, v in zip(s, rewards.tolist(), likeliest, strict=True):
        best = max(range(3), key=reward.__getitem__)
        cost = [reward[best] - r for r in reward]
        nll.append(-row[best] + math.log(sum(math.exp(x) for x in row)))
        softmax.append(-row[best] + math.log(sum(math.exp(x + c) for x, c in zip(row, cost, strict=True))))
        hinge.append(max(0.0, cost[v] - row[best] + row[v]))
    assert hinge[0] > hinge[1] == 0
    for objective, each in (("sequence-nll", nll), ("softmax-margin", softmax), ("max-margin", hinge)):
        term = structured_loss(objective, forced, rewards, 1.0, SPECIAL)
        assert term.mean.item() == pytest.approx(sum(each) / 2, abs=1e-5)
        assert term.count == 2


def test_of_the_best_alone_the_others_have_no_say():
    _, forced, log_probs = drawn()
    rewards = torch.tensor([[2.0, 0.5, 0.1], [0.0, 1.0, 0.2]])
    term = self_critical_loss(forced, rewards, best_alone=True)
    advantage = (2.0 - 0.3) * log_probs[0, 0] + (1.0 - 0.1) * log_probs[1, 1]
    torch.testing.assert_close(term.mean, -advantage / len(forced.targets))


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("cosine", (1.0, 0.1 + 0.9 / 2, 0.1)),
        ("linear", (1.0, 0.1 + 0.9 / 2, 0.1)),
        ("constant", (1.0, 1.0, 1.0)),
        ("inverse-root", (1.0, math.sqrt(10 / 51), math.sqrt(10 / 101))),
    ],
)
def test_schedules_of_the_learning_rate(schedule, shares):
    config = TrainingConfig(schedule=schedule, final_learning_rate=0.1, warmup_steps=10)
    assert [scheduled(config, done, 100) for done in (0, 50, 100)] == pytest.approx(shares)
    if schedule in ("cosine", "linear"):
        quarter = {"cosine": 0.5 * (1 + math.sqrt(0.5)), "linear": 0.75}[schedule]
        assert scheduled(config, 25, 100) == pytest.approx(0.1 + 0.9 * quarter)


def test_objectives_that_compare_need_samples_to_compare():
    with pytest.raises(CaptionBotError, match="give --samples 2"):
        TrainingConfig(stage="self-critical", samples=1, baseline="greedy", objective="risk")


# Diversity

SAID = [["a", "dog", "runs"], ["a", "cat", "sleeps"], ["two", "men", "talk"]]
REFERENCES = [[words] for words in SAID]


def test_captions_that_share_nothing_are_as_diverse_as_can_be():
    scores = diversity([[["a", "dog"], ["two", "men"], ["cat", "sleeps"]]], REFERENCES)
    assert scores["self_cider"] == pytest.approx(1)
    assert (scores["div_1"], scores["div_2"], scores["distinct_captions"]) == (1, 0.5, 1)
    assert scores["mutual_bleu_4"] < 1e-3


def test_captions_that_are_the_same_have_no_diversity():
    scores = diversity([[["a", "dog", "runs", "fast"]] * 4], REFERENCES)
    assert scores["self_cider"] == pytest.approx(0, abs=1e-6)
    assert scores["div_1"] == pytest.approx(4 / 16)
    assert scores["mutual_bleu_4"] == pytest.approx(1)
    assert scores["distinct_captions"] == 0.25


def test_self_cider_weighs_words_as_cider_does():
    """Of "a dog" and "a cat": unigrams weigh log(3 / images that have them), "a" less than the nouns."""
    kernel = SelfCider(REFERENCES).kernel([["a", "dog"], ["a", "cat"]])
    article, noun = math.log(3 / 2), math.log(3)
    cosine = article**2 / (article**2 + noun**2)
    np.testing.assert_allclose(kernel, [[0.5, cosine / 4], [cosine / 4, 0.5]])  # pairs of words differ
    values = np.array([0.5 - cosine / 4, 0.5 + cosine / 4]) ** 0.5
    expected = -math.log(values[1] / values.sum()) / math.log(2)
    assert SelfCider(REFERENCES)([["a", "dog"], ["a", "cat"]]) == pytest.approx(expected)


# Caches


def test_a_cache_keeps_to_its_size_and_what_the_run_uses(tmp_path):
    now = time.time()
    ages = {"pixels-" + "0" * 16: 30, "features-" + "1" * 16: 20, "ready-" + "2" * 16: 10}
    ages |= {"pixels-" + "3" * 16: -1, "features-" + "4" * 16 + ".77.part": 2 * 24 * 60 * 60}
    ages |= {"features-" + "5" * 16 + ".78.part": 40, "photos-of-mine": 50}
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "values.bin").write_bytes(bytes(1000))
        os.utime(tmp_path / name, (now - age, now - age))
    assert tidy(tmp_path, 50, now) == ["features-" + "4" * 16 + ".77.part"]  # nothing is too much
    assert tidy(tmp_path, 4000 / 2**30, now) == ["pixels-" + "0" * 16]
    assert tidy(tmp_path, 0, now) == ["features-" + "1" * 16, "ready-" + "2" * 16]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"pixels-" + "3" * 16, "features-" + "5" * 16 + ".78.part", "photos-of-mine"}
    assert tidy(tmp_path / "nowhere", 0, now) == []
