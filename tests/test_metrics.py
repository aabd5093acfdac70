import json
import logging
import math
import os
import stat

import numpy as np
import pytest

from captionbot.errors import CaptionBotError
from captionbot.tokenizer import tokenize
from training.metrics import CiderD, bleu, meteor_scores, meteor_unavailable, rouge_l, score

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


needs_meteor = pytest.mark.skipif(meteor_unavailable() is not None, reason=str(meteor_unavailable()))


@needs_meteor
def test_meteor_is_what_coco_caption_gave():
    hypotheses = [["a", "dog", "runs"], ["a", "person", "riding", "bicycles"], [], ["two", "girls"]]
    corpus, each = meteor_scores(hypotheses, [*DOGS, DOGS[2]])
    assert corpus == 0.30742639647411885
    assert each.tolist() == [1.0, 0.3081739754982745, 0.0, 0.29170666383042776]


@pytest.mark.slow  # it starts Java twice
@needs_meteor
def test_meteor_is_that_of_coco_caption(people):
    from pycocoevalcap.meteor.meteor import Meteor

    expected, expected_each = Meteor().compute_score(*coco(*people))
    corpus, each = meteor_scores(*people)
    assert corpus == expected
    np.testing.assert_array_equal(each, expected_each)


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
    scores = score(RAW, RAW_REFERENCES, meteor=False)
    assert list(scores) == ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
    assert list(scores.values())[:4] == bleu(captions, humans)
    assert scores["ROUGE_L"] == pytest.approx(rouge_l(captions, humans).mean())
    assert scores["CIDEr"] == pytest.approx(CiderD(humans)(captions).mean())
    shuffled = {i: RAW[i] for i in reversed(images)}
    assert score(shuffled, RAW_REFERENCES, meteor=False) == pytest.approx(scores)


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
    assert "METEOR" not in scores and "CIDEr" in scores
    assert reason in caplog.text


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
