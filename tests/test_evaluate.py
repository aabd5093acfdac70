"""Scoring and shipping, from the command line, with a tiny captioner and plain pictures."""

import json

import pytest
from PIL import Image
from tiny import build_tiny_captioner

from captionbot import CaptionBotError, Captioner, load_image
from training import evaluate, export
from training.data.coco import read_coco, read_results

CAPTIONS = {"a.jpg": ["A dog runs on the beach .", "the dog plays"], "b.jpg": ["a man in the snow"]}


@pytest.fixture
def data(tmp_path):
    for name, colour in zip(CAPTIONS, ("red", "white"), strict=True):
        Image.new("RGB", (60, 40), colour).save(tmp_path / name)
    karpathy = [
        {"filename": name, "split": "val", "sentences": [{"raw": text} for text in texts]}
        for name, texts in CAPTIONS.items()
    ]
    (tmp_path / "karpathy.json").write_text(json.dumps({"images": karpathy}))
    coco = {
        "images": [{"id": 10 + i, "file_name": name} for i, name in enumerate(CAPTIONS)],
        "annotations": [
            {"image_id": 10 + i, "caption": text}
            for i, texts in enumerate(CAPTIONS.values())
            for text in texts
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    return tmp_path


def run(*arguments):
    return evaluate.main([*map(str, arguments), "--no-meteor"])


@pytest.mark.parametrize("form", ["karpathy", "coco"])
def test_results_and_predictions_are_those_of_the_captioner(data, form, tmp_path):
    card = build_tiny_captioner(tmp_path / "tiny")
    out = tmp_path / "out" / "results.json"
    flags = ["--images", data, "--annotations", data / f"{form}.json", "--format", form, "--device", "cpu"]
    assert run("--model", card, *flags, "--beam-size", 2, "--out", out) == 0
    results = json.loads(out.read_text())
    assert results["model"] == "tiny"
    assert results["images"] == 2
    assert results["beam_size"] == 2
    assert {"Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr", "seconds", "images_per_second"} <= results.keys()
    captioner = Captioner.from_pretrained(card, device="cpu")
    expected = [
        captioner.caption(load_image(data / name), beam_size=2)[0].captions[0].text for name in CAPTIONS
    ]
    predictions = json.loads((out.parent / "predictions.json").read_text())
    assert [p["caption"] for p in predictions] == expected
    assert [p["image_id"] for p in predictions] == ([10, 11] if form == "coco" else list(CAPTIONS))


def test_captions_from_anywhere_can_be_scored(data, tmp_path):
    predictions = tmp_path / "p.json"
    captions = {10: "a dog runs on the beach", 11: "a man in the snow"}
    predictions.write_text(json.dumps([{"image_id": i, "caption": c} for i, c in captions.items()]))
    flags = ["--annotations", data / "coco.json", "--format", "coco", "--out", tmp_path / "r.json"]
    assert run("--predictions", predictions, *flags) == 0
    assert json.loads((tmp_path / "r.json").read_text())["Bleu_4"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--annotations", "karpathy.json", "--split", "test"], "has no split 'test'; choose one of val"),
        (["--annotations", "coco.json"], "is not in the form of Karpathy"),
        (["--annotations", "karpathy.json", "--format", "coco"], "is not in COCO's format"),
        (["--annotations", "karpathy.json"], "needs --images"),
        (["--annotations", "karpathy.json", "--predictions", "few.json"], "have no caption of 'b.jpg'"),
        (["--annotations", "karpathy.json", "--predictions", "coco.json"], "not in COCO's results format"),
    ],
)
def test_mistakes_are_one_sentence(data, flags, sentence, monkeypatch, capsys):
    monkeypatch.chdir(data)
    (data / "few.json").write_text('[{"image_id": "a", "caption": "a dog"}]')
    assert run(*flags) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_readers_of_coco(data):
    examples, ids = read_coco(data / "coco.json")
    assert [example.name for example in examples] == ["a.jpg", "b.jpg"]
    assert examples[0].captions == tuple(CAPTIONS["a.jpg"])
    assert ids == {"a.jpg": 10, "b.jpg": 11}
    with pytest.raises(CaptionBotError, match="results format"):
        read_results(data / "coco.json")


def test_a_real_coco_file_is_read(shared):
    examples, ids = read_coco(shared / "data" / "coco" / "captions_val2017.json")
    assert len(examples) == len(ids) == 5000
    assert sum(len(example.captions) for example in examples) == 25014


def test_export_makes_a_compact_default_with_scores(tmp_path, data):
    run_card = build_tiny_captioner(tmp_path / "run", default=False)
    (tmp_path / "results.json").write_text(json.dumps({"CIDEr": 0.5, "Bleu_4": 0.2, "seconds": 3}))
    (tmp_path / "tried.json").write_text('[{"what": "nothing", "CIDEr": 0.1}]')
    flags = ["--name", "small", "--out", tmp_path / "ship", "--default", "--licence", "MIT"]
    flags += ["--search", '{"no_repeat_ngram_size": 2}']
    files = ["--scores", tmp_path / "results.json", "--tried", tmp_path / "tried.json"]
    assert export.main([str(a) for a in [run_card, *flags, *files]]) == 0
    card = json.loads((tmp_path / "ship" / "small.json").read_text())
    assert card["default"] is True
    assert card["storage"] == "int8"
    assert card["scores"] == {"Bleu_4": 0.2, "CIDEr": 0.5}
    assert card["search"] == {
        "beam_size": 3,
        "max_length": 8,
        "length_penalty": 0.7,
        "no_repeat_ngram_size": 2,
    }
    assert card["training"]["tried"][0]["what"] == "nothing"
    shipped = Captioner.from_pretrained(tmp_path / "ship", device="cpu")
    assert shipped.caption(load_image(data / "a.jpg"))[0].captions[0].words
