import json
import logging
import math
import os
import stat
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from captionbot.errors import CaptionBotError
from captionbot.text.tokenizer import tokenize
from training.metrics import CiderD, bleu, java, measure, rouge_l, score
from training.metrics.overlap import bleu_tally
from training.metrics.prose import describe, faults
from training.metrics.significance import differences, intervals
from training.metrics.tally import mean_tally

DOGS = [
    [["a", "dog", "runs"], ["the", "brown", "dog", "runs", "on", "grass"]],
    [["a", "man", "on", "a", "bike"], ["a", "man", "rides", "a", "bike"]],
    [["two", "girls", "play"], ["two", "girls", "play", "in", "the", "sand"]],
]


@pytest.fixture(scope="module")
def people(shared):
    """One person's captions of 300 photos, a few made odd, and those of the four others."""
    images = json.loads((shared / "data/flickr8k/dataset_flickr8k.json").read_bytes())["images"]
    captions = [[tokenize(s["raw"]) for s in i["sentences"]] for i in images if i["split"] == "val"][:300]
    hypotheses, references = [c[0] for c in captions], [c[1:] for c in captions]
    hypotheses[0] = []
    hypotheses[1] = ["dog"]
    hypotheses[2] = ["a"] * 30
    hypotheses[3] = references[3][2]
    hypotheses[4] = hypotheses[4] * 4
    hypotheses[5] = ["unheard", "of", "unheard", "of", "unheard", "of"]
    references[6] = references[6][:1]
    references[7] = [["one"], ["two", "words"], ["three", "little", "words"]]
    hypotheses[8] = ["two", "three"]
    references[9] = [[], ["a", "dog"]]
    return hypotheses, references


def coco(hypotheses, references):
    return (
        {i: [" ".join(human) for human in humans] for i, humans in enumerate(references)},
        {i: [" ".join(hypothesis)] for i, hypothesis in enumerate(hypotheses)},
    )


def test_bleu_is_that_of_coco_caption(people):
    theirs = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    assert bleu(*people) == pytest.approx(theirs.compute_score(*coco(*people), verbose=0)[0], rel=1e-12)


@pytest.mark.parametrize("hypothesis", [[], ["a"], ["a", "dog"], ["zebra"] * 9, DOGS[0][1] * 3])
def test_bleu_of_one_sentence_is_that_of_coco_caption(hypothesis):
    theirs = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    expected = theirs.compute_score(*coco([hypothesis], DOGS[:1]), verbose=0)[0]
    assert bleu([hypothesis], DOGS[:1]) == pytest.approx(expected, rel=1e-12)


def test_rouge_l_is_that_of_coco_caption(people):
    theirs = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge()
    _, expected = theirs.compute_score(*coco(*people))
    np.testing.assert_allclose(rouge_l(*people), expected, rtol=1e-12)


def test_cider_d_is_that_of_coco_caption(people):
    theirs = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    _, expected = theirs.compute_score(*coco(*people))
    hypotheses, references = people
    np.testing.assert_allclose(CiderD(references)(hypotheses), expected, rtol=1e-12, atol=1e-12)


def test_bleu_of_every_image_is_that_of_coco_caption(people):
    theirs = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    _, expected = theirs.compute_score(*coco(*people), verbose=0)
    np.testing.assert_allclose(bleu_tally(*people).each(), np.transpose(expected), rtol=1e-9, atol=1e-12)


needs_meteor = pytest.mark.skipif(
    java.meteor_unavailable() is not None, reason=str(java.meteor_unavailable())
)


@needs_meteor
def test_meteor_is_what_coco_caption_gave():
    hypotheses = [["a", "dog", "runs"], ["a", "person", "riding", "bicycles"], [], ["two", "girls"]]
    tally = java.meteor_tally(hypotheses, [*DOGS, DOGS[2]])
    assert tally.corpus() == pytest.approx([0.30742639647411885], rel=1e-12)
    expected = [1.0, 0.3081739754982745, 0.0, 0.29170666383042776]
    assert tally.each()[:, 0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow  # it starts Java twice
@needs_meteor
def test_meteor_is_that_of_coco_caption(people):
    from pycocoevalcap.meteor.meteor import Meteor

    expected, expected_each = Meteor().compute_score(*coco(*people))
    tally = java.meteor_tally(*people)
    assert tally.corpus() == pytest.approx([expected], rel=1e-12)
    np.testing.assert_allclose(tally.each()[:, 0], expected_each, rtol=1e-12)


def test_cider_d_by_hand():
    # Every word but "a" is in one image's references of three, "a" in two.
    rare, common = math.log(3), math.log(3 / 2)
    references = [[["a", "dog"]], [["a", "cat"]], [["the", "bird"]]]
    cosine = common**2 / (common**2 + rare**2)  # "a cat" against "a dog": they share "a"
    scores = CiderD(references)([["a", "dog"], ["a", "cat"], ["a", "dog"]], [0, 0, 2])
    np.testing.assert_allclose(scores, [10 * 2 / 4, 10 * cosine / 4, 0.0])


def test_cider_d_scores_hypotheses_of_any_images_in_any_order(people):
    hypotheses, references = people
    cider = CiderD(references)
    expected = cider(hypotheses)
    order = np.random.default_rng(0).integers(len(references), size=500)
    np.testing.assert_allclose(cider([hypotheses[i] for i in order], order), expected[order], rtol=1e-12)
    np.testing.assert_allclose(cider([hypotheses[9]], [9]), expected[[9]], rtol=1e-12)
    np.testing.assert_array_equal(cider([], []), [])


def test_cider_d_of_ids_is_that_of_words(people):
    hypotheses, references = people
    numbers: dict[str, int] = {}

    def ids(words):
        return tuple(numbers.setdefault(word, len(numbers)) for word in words)

    scores = CiderD([[ids(human) for human in humans] for humans in references])([ids(h) for h in hypotheses])
    np.testing.assert_array_equal(scores, CiderD(references)(hypotheses))


@pytest.mark.parametrize("references", [[], [[]], [[["a"]], []]])
def test_cider_d_needs_references(references):
    with pytest.raises(ValueError, match="reference for every image"):
        CiderD(references)


def test_cider_d_needs_one_image_for_each_hypothesis():
    with pytest.raises(ValueError, match="2 hypotheses for 3 images"):
        CiderD(DOGS)([["a"], ["b"]])


RAW = {"1.jpg": "A dog's bone.", "2.jpg": "a man rides a bike", "3.jpg": "Two girls"}
RAW_REFERENCES = {
    "1.jpg": ["a dog 's bone", "The dog has a bone!"],
    "2.jpg": ["A man on a bike ."],
    "3.jpg": ["two girls play", "girls in the sand"],
    "4.jpg": ["of this one there is no caption"],
}


def test_score_reads_raw_text_and_ignores_images_without_caption():
    images = list(RAW)
    captions = [tokenize(RAW[i]) for i in images]
    humans = [[tokenize(c) for c in RAW_REFERENCES[i]] for i in images]
    scores = score(RAW, RAW_REFERENCES, meteor=False, spice=False)
    assert list(scores) == ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
    assert list(scores.values())[:4] == bleu(captions, humans)
    assert scores["ROUGE_L"] == pytest.approx(rouge_l(captions, humans).mean())
    assert scores["CIDEr"] == pytest.approx(CiderD(humans)(captions).mean())
    shuffled = {i: RAW[i] for i in reversed(images)}
    assert score(shuffled, RAW_REFERENCES, meteor=False, spice=False) == pytest.approx(scores)


@pytest.mark.skipif(os.name != "posix", reason="makes a program that stands in for java")
@pytest.mark.parametrize(
    ("java", "reason"),
    [
        (None, "needs Java"),
        ("#!/bin/sh\nexit 1\n", "stopped half-way"),
        ("#!/bin/sh\nread question\necho nonsense\n", "stopped half-way"),
    ],
)
def test_score_leaves_meteor_out_where_java_does_not_work(java, reason, tmp_path, monkeypatch, caplog):
    pytest.importorskip("pycocoevalcap")
    if java is not None:
        program = tmp_path / "java"
        program.write_text(java)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        scores = score(RAW, RAW_REFERENCES)
    assert list(scores) == ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
    assert reason in caplog.text and "METEOR is left out" in caplog.text
    assert "SPICE is left out" in caplog.text


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ({}, {"1.jpg": ["a dog"]}, "nothing to score"),
        ({"1.jpg": "a dog", "2.jpg": "a cat"}, {"1.jpg": ["a dog"]}, "1 of 2 .* '2.jpg'"),
        ({"1.jpg": "a dog"}, {"1.jpg": []}, "no reference caption"),
    ],
)
def test_score_names_what_is_missing(hypotheses, references, message):
    with pytest.raises(CaptionBotError, match=message):
        score(hypotheses, references)


def stand_in_java(folder, monkeypatch, script):
    """A program of the name java, the only one there is."""
    program = folder / "java"
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


def test_spice_says_what_it_lacks(tmp_path, monkeypatch):
    pytest.importorskip("pycocoevalcap")
    stand_in_java(tmp_path, monkeypatch, "#!/bin/sh\n")
    monkeypatch.setattr(java, "_CORENLP", ("no-such.jar",))
    assert "get_stanford_models" in str(java.spice_unavailable())
    measured = measure(RAW, RAW_REFERENCES, meteor=False)
    assert measured.left_out == {"SPICE": java.spice_unavailable()}
    monkeypatch.setenv("PATH", "")
    assert java.spice_unavailable() == (
        "SPICE needs Java, version 8 or later: install it, or do without SPICE."
    )


# What SPICE 1.0 writes: the images in any order, null where neither caption has anything to compare.
SPICE_ANSWER = """[
  {"image_id": 1, "scores": {"All": {"pr": 1.0, "re": 0.5, "f": 0.6666666666666666, "fn": 2.0, "tp": 2.0},
                             "Color": {"pr": null, "re": null, "f": null}}},
  {"image_id": 0, "scores": {"All": {"pr": 0.25, "re": 0.25, "f": 0.25, "fn": 3.0, "tp": 1.0}}}
]"""


@pytest.mark.skipif(os.name != "posix", reason="makes a program that stands in for java")
def test_spice_is_the_mean_of_what_its_program_writes(tmp_path, monkeypatch):
    (tmp_path / "answer.json").write_text(SPICE_ANSWER)
    stand_in_java(
        tmp_path,
        monkeypatch,
        f'#!/bin/sh\n/bin/cp "$4" {tmp_path}/asked.json\n/bin/cp {tmp_path}/answer.json "$8"\n',
    )
    tally = java.run_spice(tmp_path, [["a", "dog"], ["a", "cat"]], [[["the", "dog"], ["dogs"]], [["cats"]]])
    assert tally.each()[:, 0].tolist() == [0.25, 0.6666666666666666]
    assert tally.corpus().tolist() == [(0.25 + 0.6666666666666666) / 2]
    assert json.loads((tmp_path / "asked.json").read_text()) == [
        {"image_id": 0, "test": "a dog", "refs": ["the dog", "dogs"]},
        {"image_id": 1, "test": "a cat", "refs": ["cats"]},
    ]


@pytest.mark.skipif(os.name != "posix", reason="makes a program that stands in for java")
@pytest.mark.parametrize("script", ["exit 1", "echo '[]' > \"$8\"", 'echo nonsense > "$8"'])
def test_spice_that_stops_half_way_is_one_sentence(script, tmp_path, monkeypatch):
    stand_in_java(tmp_path, monkeypatch, f"#!/bin/sh\n{script}\n")
    with pytest.raises(CaptionBotError, match="stopped half-way"):
        java.run_spice(Path(tmp_path), [["a", "dog"]], [[["the", "dog"]]])


def test_how_captions_read():
    texts = ["a man in a in a", "a red shirt and a red shirt", "two dogs run", "two dogs run", ""]
    captions = [text.split() for text in texts]
    assert [faults(words) for words in captions] == [
        ["repeats", "stutters", "breaks_off"],
        ["repeats"],
        [],
        [],
        ["breaks_off"],
    ]
    report = describe(captions, training=[["two", "dogs", "run"], ["a", "cat"]])
    assert report == pytest.approx(
        {
            "mean_length": 19 / 5,
            "vocabulary": 9,  # a man in red shirt and two dogs run
            "distinct_captions": 4 / 5,
            "distinct_1": 9 / 19,
            "distinct_2": (4 + 4 + 2) / 15,
            "distinct_3": (4 + 4 + 1) / 11,
            "distinct_4": 1.0,
            "repeats": 2 / 5,
            "stutters": 1 / 5,
            "breaks_off": 2 / 5,
            "novel": 3 / 5,
        }
    )
    assert "novel" not in describe(captions)


def test_people_seldom_stutter_or_break_off(people):
    report = describe([human for humans in people[1] for human in humans])
    assert report["stutters"] < 0.005
    assert report["breaks_off"] < 0.02
    assert report["repeats"] < 0.06


def test_interval_of_a_mean_is_that_of_the_normal_law():
    values = np.random.default_rng(1).normal(3.0, 2.0, size=2000)
    low, high = intervals([mean_tally("x", values)], samples=4000, seed=0)["x"]
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.006)
    assert high == pytest.approx(values.mean() + half, abs=0.006)
    assert (low, high) == intervals([mean_tally("x", values)], samples=4000, seed=0)["x"]
    assert (low, high) != intervals([mean_tally("x", values)], samples=4000, seed=1)["x"]


def test_bootstrap_scores_each_resample_as_a_corpus_of_its_own(people):
    hypotheses, references = people[0][:40], people[1][:40]
    random = np.random.default_rng(5)
    plain = []
    for _ in range(200):
        chosen = random.integers(40, size=40)
        plain.append(bleu([hypotheses[i] for i in chosen], [references[i] for i in chosen]))
    found = intervals([bleu_tally(hypotheses, references)], samples=2000)
    for n, (low, high) in enumerate(np.quantile(plain, [0.025, 0.975], axis=0).T, 1):
        assert found[f"Bleu_{n}"] == pytest.approx((low, high), abs=0.03)


def test_paired_test_by_counting_all_coins():
    first, second = np.array([0.1, 0.5, 0.3, 0.2, 0.6]), np.array([0.3, 0.6, 0.2, 0.6, 0.9])
    (found,) = differences([mean_tally("x", first)], [mean_tally("x", second)], samples=20_000, seed=0)
    gain = second - first
    signs = np.array(list(product([-1, 1], repeat=5)))
    p = (np.abs(signs @ gain) >= abs(gain.sum()) - 1e-12).mean()
    assert found.p == pytest.approx(p, abs=0.01)
    assert (found.first, found.second) == pytest.approx((first.mean(), second.mean()))
    means = np.array(list(product(gain, repeat=5))).mean(axis=1)  # all 3,125 resamples there are
    expected = np.quantile(means, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(expected, abs=0.011)


def test_paired_test_sees_a_better_captioner_and_no_difference_where_there_is_none(people):
    humans = {
        str(i): [" ".join(h) for h in references[1:]] for i, references in enumerate(people[1]) if i > 9
    }
    one = {i: " ".join(people[0][int(i)]) for i in humans}
    another = {i: " ".join(people[1][int(i)][0]) for i in humans}
    coins = dict(zip(humans, np.random.default_rng(0).integers(2, size=len(humans)), strict=True))
    heads = {i: (one if coins[i] else another)[i] for i in humans}
    tails = {i: (another if coins[i] else one)[i] for i in humans}
    clipped = {i: " ".join(caption.split()[:-3]) for i, caption in one.items()}
    tallies = [measure(c, humans, meteor=False, spice=False).tallies for c in (heads, tails, clipped)]
    same = {d.name: d for d in differences(tallies[0], tallies[0])}
    assert all(d.difference == 0 == d.low == d.high and d.p == 1 for d in same.values())
    by_chance = {d.name: d for d in differences(tallies[0], tallies[1])}
    assert by_chance["CIDEr"].p > 0.05
    assert by_chance["CIDEr"].low < 0 < by_chance["CIDEr"].high
    worse = {d.name: d for d in differences(tallies[0], tallies[2])}
    assert worse["CIDEr"].high < 0 and worse["CIDEr"].p < 0.01
