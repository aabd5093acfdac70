"""Scoring and shipping, from the command line, with a tiny captioner and plain pictures."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from tiny import build_tiny_captioner

from captionbot import CaptionBotError, Captioner, load_image
from training.compress import export
from training.data import Example
from training.data.formats import load_dataset
from training.evaluation import compare, evaluate
from training.evaluation.predictions import captions_of, read_predictions
from training.metrics import score

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
    (tmp_path / "coco_val.json").write_text(json.dumps(coco))
    return tmp_path


def run(*arguments):
    return evaluate.main([*map(str, arguments), "--no-meteor", "--no-spice", "--samples", "50"])


@pytest.mark.parametrize("form", ["karpathy", "coco"])
def test_results_and_predictions_are_those_of_the_captioner(data, form, tmp_path):
    card = build_tiny_captioner(tmp_path / "tiny")
    out = tmp_path / "out" / "results.json"
    flags = [
        "--images",
        data,
        "--annotations",
        next(data.glob(f"{form}*.json")),
        "--format",
        form,
        "--device",
        "cpu",
    ]
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
    flags = ["--annotations", data / "coco_val.json", "--format", "coco", "--out", tmp_path / "r.json"]
    assert run("--predictions", predictions, *flags) == 0
    assert json.loads((tmp_path / "r.json").read_text())["Bleu_4"] == pytest.approx(1)


FORMS_OF_CAPTIONS = {
    "coco": '[{"image_id": 10, "caption": "a dog"}, {"image_id": 11, "caption": "a man"}]',
    "names": '[{"image": "a.jpg", "caption": "a dog"}, {"image": "x/b.jpg", "caption": "a man"}]',
    "file names": '[{"file_name": "a.jpg", "text": "a dog"}, {"filename": "b", "captions": ["a man", "x"]}]',
    "object": '{"a.jpg": "a dog", "b.jpg": "a man"}',
    "object of lists": '{"10": ["a dog"], "11": [{"caption": "a man"}]}',
    "jsonl": """{"image": "p/a.jpg", "model": "m", "captions": [{"text": "a dog"}, {"text": "one"}]}
{"image": "broken.jpg", "error": "It is no image."}
{"image": "p/b.jpg", "model": "m", "captions": [{"text": "a man"}]}
""",
}


@pytest.mark.parametrize("form", FORMS_OF_CAPTIONS)
def test_captions_of_other_projects_are_read_in_their_own_forms(form, data, tmp_path):
    (tmp_path / "p").write_text(FORMS_OF_CAPTIONS[form], encoding="utf-8")
    assert (
        run("--predictions", tmp_path / "p", "--annotations", data / "coco_val.json", "--out", tmp_path / "r")
        == 0
    )
    assert read_predictions(tmp_path / "predictions.json") == {"10": "a dog", "11": "a man"}


def test_the_command_line_writes_what_evaluation_reads(data, tmp_path):
    from captionbot.cli.main import main

    card = build_tiny_captioner(tmp_path / "tiny")
    (data / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "captions.jsonl"
    main(["caption", str(data), "--model", str(card), "--format", "jsonl", "--out", str(out)])
    assert len(out.read_text().splitlines()) == 3
    flags = ["--annotations", data / "karpathy.json", "--out", tmp_path / "r.json"]
    assert run("--predictions", out, *flags) == 0


def test_one_line_of_jsonl_is_one_image(data, tmp_path, capsys):
    (tmp_path / "p").write_text('{"image": "a.jpg", "captions": [{"text": "a dog"}]}')
    flags = [
        "--predictions",
        tmp_path / "p",
        "--annotations",
        data / "coco_val.json",
        "--out",
        tmp_path / "r.json",
    ]
    assert run(*flags, "--subset") == 0
    assert json.loads((tmp_path / "r.json").read_text())["images"] == 1
    assert run(*flags) == 2
    assert "or score only those that have one with --subset" in capsys.readouterr().err


def test_two_captions_of_one_image_are_refused(tmp_path):
    (tmp_path / "p").write_text('[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]')
    with pytest.raises(CaptionBotError, match="two captions of image '1'"):
        read_predictions(tmp_path / "p")


def test_a_file_of_ones_own_is_split_by_name_and_can_be_scored_whole(data, tmp_path):
    (data / "coco_val.json").rename(data / "mine.json")
    (tmp_path / "p.json").write_text(json.dumps({"a.jpg": "a dog", "b.jpg": "a man"}))
    flags = ["--predictions", tmp_path / "p.json", "--annotations", data / "mine.json"]
    for split, images in (("val", 1), ("all", 2)):
        assert run(*flags, "--split", split, "--out", tmp_path / "r.json") == 0
        assert json.loads((tmp_path / "r.json").read_text())["images"] == images


def test_several_captions_of_each_image_are_compared_with_each_other(data, tmp_path, capsys):
    card = build_tiny_captioner(tmp_path / "tiny")
    flags = ["--images", data, "--annotations", data / "karpathy.json", "--device", "cpu"]
    flags += ["--out", tmp_path / "r.json", "--model", card]
    assert run(*flags, "--several", 4) == 0
    found = json.loads((tmp_path / "r.json").read_text())["diversity"]
    assert found["captions"] == 4 and found["distinct_captions"] == 1  # a beam's captions all differ
    assert 0 < found["self_cider"] <= 1 and 0 < found["div_1"] <= 1
    assert run(*flags, "--several", 1) == 2
    assert "give 2 or more" in capsys.readouterr().err


def test_results_say_how_sure_they_are_and_how_captions_read(data, tmp_path):
    images = json.loads((data / "karpathy.json").read_text())["images"]
    train = [{"filename": "t.jpg", "split": "train", "sentences": [{"raw": "A man in a in a"}]}]
    (data / "karpathy.json").write_text(json.dumps({"images": images + train}))
    captions = {"a.jpg": "a dog runs on the sand", "b.jpg": "a man in a in a"}
    (tmp_path / "p.json").write_text(json.dumps(captions))
    out = tmp_path / "r.json"
    flags = ["--predictions", tmp_path / "p.json", "--annotations", data / "karpathy.json", "--out", out]
    assert run(*flags, "--per-image", "--seed", 3) == 0
    results = json.loads(out.read_text())
    assert results["bootstrap"] == {"samples": 50, "seed": 3}
    low, high = results["intervals"]["CIDEr"]
    assert low <= results["CIDEr"] <= high
    assert results["captions"]["mean_length"] == 6
    assert results["captions"]["novel"] == 0.5
    assert results["captions"]["stutters"] == 0.5
    assert results["people"]["mean_length"] == 5.5
    assert results["people"]["stutters"] == 0
    rows = [json.loads(line) for line in (tmp_path / "per_image.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == list(captions.values())
    assert rows[1]["faults"] == ["repeats", "stutters", "breaks_off"]
    assert np.mean([row["CIDEr"] for row in rows]) == pytest.approx(results["CIDEr"])
    alone = score({"a.jpg": captions["a.jpg"]}, CAPTIONS, meteor=False, spice=False)
    assert rows[0]["Bleu_2"] == pytest.approx(alone["Bleu_2"])


def compare_files(*arguments):
    return compare.main([*map(str, arguments), "--no-meteor", "--no-spice", "--samples", "500"])


def test_two_files_of_results_are_compared(data, tmp_path, capsys):
    files = {"good": ["a dog runs on the beach", "a man in the snow"], "bad": ["a cat", "a man in the snow"]}
    for name, (a, b) in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"a.jpg": a, "b.jpg": b}))
        flags = ["--predictions", tmp_path / f"{name}.json", "--annotations", data / "coco_val.json"]
        assert run(*flags, "--out", tmp_path / name / "results.json") == 0
    annotations = ["--annotations", data / "coco_val.json"]
    capsys.readouterr()
    out = tmp_path / "c.json"
    results = [tmp_path / name / "results.json" for name in ("bad", "good")]
    assert compare_files(*results, *annotations, "--out", out) == 0
    text = capsys.readouterr().out
    assert "B is better, by CIDEr:\n  a.jpg" in text
    assert "    A: a cat\n    B: a dog runs on the beach" in text
    assert text.endswith("A is better, by CIDEr:\n")
    comparison = json.loads(out.read_text())
    (cider,) = [row for row in comparison["scores"] if row["name"] == "CIDEr"]
    scores = [json.loads(path.read_text())["CIDEr"] for path in results]
    assert [cider["first"], cider["second"]] == pytest.approx(scores)
    assert cider["difference"] == pytest.approx(scores[1] - scores[0])
    assert cider["low"] == 0 < cider["high"]
    assert cider["p"] == 1  # of two images one is equal: swapping the other is as large either way
    assert [row["image"] for row in comparison["per_image"]] == ["b.jpg", "a.jpg"]
    capsys.readouterr()
    assert compare_files(tmp_path / "bad.json", tmp_path / "good.json", *annotations) == 0
    assert capsys.readouterr().out.splitlines()[4:10] == text.splitlines()[4:10]


def test_results_whose_captions_were_overwritten_are_not_compared(data, tmp_path, capsys):
    for name in ("first", "second"):
        (tmp_path / "p.json").write_text(json.dumps({"a.jpg": f"the {name} dog", "b.jpg": "a man"}))
        flags = ["--predictions", tmp_path / "p.json", "--annotations", data / "coco_val.json"]
        assert run(*flags, "--out", tmp_path / f"{name}.json") == 0
    capsys.readouterr()
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    assert compare_files(*files, "--annotations", data / "coco_val.json") == 2
    assert "of another run than" in capsys.readouterr().err
    flags = [tmp_path / "second.json", tmp_path / "p.json", "--annotations", data / "coco_val.json"]
    assert compare_files(*flags, "--by", "Cider") == 2
    assert "--by is one of Bleu_1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--annotations", "karpathy.json", "--split", "test"], "has no split 'test'; choose one of val"),
        (["--annotations", "coco_val.json", "--format", "karpathy"], "coco_val.json"),
        (["--annotations", "karpathy.json", "--format", "coco"], "is not in COCO's format"),
        (["--annotations", "nothing.json"], "nothing.json"),
        (["--annotations", "karpathy.json"], "needs --images"),
        (["--annotations", "karpathy.json", "--predictions", "few.json"], "have no caption of 'b.jpg'"),
        (
            ["--annotations", "karpathy.json", "--subset", "--predictions", "other.json"],
            "no caption of any of the 2",
        ),
        (["--annotations", "karpathy.json", "--predictions", "coco_val.json"], "is not a file of captions"),
        (["--annotations", "karpathy.json", "--predictions", "nothing.json"], "nothing.json"),
        (["--annotations", "number.json"], "the image's name 5 is not text"),
        (["--annotations", "karpathy.json", "--out", "folder"], "folder is a folder; give a file as --out"),
        (["--annotations", "karpathy.json", "--out", "."], "is a folder; give a file as --out"),
        (["--annotations", "karpathy.json", "--out", "/proc/x/r.json"], "/proc/x/r.json cannot be written"),
        (["--annotations", "karpathy.json", "--out", "few.json/r.json"], "few.json/r.json cannot be written"),
        (["--annotations", "karpathy.json", "--out", "predictions.json"], "also the name of a file that"),
        (["--annotations", "karpathy.json", "--limit", "-1"], "limit is -1; give 0 or more."),
        (["--annotations", "karpathy.json", "--batch-size", "0"], "batch_size is 0; give 1 or more."),
        (["--annotations", "karpathy.json", "--seed", "-1"], "seed is -1; give 0 or more."),
    ],
)
def test_mistakes_are_one_sentence(data, flags, sentence, monkeypatch, capsys):
    monkeypatch.chdir(data)
    (data / "other.json").write_text('[{"image_id": "z", "caption": "a dog"}]')
    (data / "few.json").write_text('[{"image_id": "a", "caption": "a dog"}]')
    (data / "number.json").write_text('{"images": [{"id": 1, "file_name": 5}], "annotations": []}')
    (data / "folder").mkdir()
    assert run(*flags) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", [evaluate, compare])
@pytest.mark.parametrize("samples", ["0", "-5"])
def test_samples_are_at_least_one(command, samples, data, monkeypatch, capsys):
    monkeypatch.chdir(data)
    files = ["x.json", "y.json"] if command is compare else []
    assert command.main([*files, "--annotations", "karpathy.json", "--samples", samples]) == 2
    assert capsys.readouterr().err == f"samples is {samples}; give 1 or more.\n"


@pytest.mark.parametrize(
    "flags",
    [
        ["--predictions", "predictions.json", "--annotations", "coco_val.json"],
        ["--predictions", "link.json", "--annotations", "coco_val.json"],
        ["--predictions", "p.json", "--annotations", "results.json"],
        ["--predictions", "per_image.jsonl", "--annotations", "coco_val.json", "--per-image"],
    ],
    ids=lambda flags: flags[1],
)
def test_files_that_are_read_are_not_replaced(flags, data, monkeypatch, capsys):
    monkeypatch.chdir(data)
    captions = json.dumps({"a.jpg": "a dog", "b.jpg": "a man"})
    for name in ("predictions.json", "p.json", "per_image.jsonl"):
        (data / name).write_text(captions)
    (data / "link.json").symlink_to(data / "predictions.json")
    (data / "results.json").write_text((data / "coco_val.json").read_text())
    before = {path: path.read_bytes() for path in data.iterdir()}
    if flags[3] != "results.json":  # the default --out
        before.pop(data / "results.json")
        (data / "results.json").unlink()
    assert run(*flags) == 2
    assert "is read and would be replaced; give another --out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in data.iterdir()} == before
    assert (
        compare_files("p.json", "predictions.json", "--annotations", "coco_val.json", "--out", "p.json") == 2
    )
    assert (data / "p.json").read_text() == captions


def test_a_photo_that_cannot_be_read_is_named(data, tmp_path, capsys):
    card = build_tiny_captioner(tmp_path / "tiny")
    (data / "b.jpg").write_bytes(b"no image")
    flags = ["--images", data, "--annotations", data / "coco_val.json", "--device", "cpu"]
    assert run("--model", card, *flags, "--out", tmp_path / "r.json") == 2
    assert "\nb.jpg: the image is empty or not an image" in "\n" + capsys.readouterr().err.replace("\r", "\n")


@pytest.mark.parametrize("search", ["5", "{"])
def test_search_options_are_an_object(search, data, capsys):
    with pytest.raises(SystemExit):
        run("--annotations", data / "coco_val.json", "--search", search)
    assert f"'{search}' is not a JSON object; give search options" in capsys.readouterr().err


def test_a_beam_size_among_the_search_options_counts(data, tmp_path):
    card = build_tiny_captioner(tmp_path / "tiny")
    flags = ["--images", data, "--annotations", data / "coco_val.json", "--device", "cpu"]
    assert run("--model", card, *flags, "--search", '{"beam_size": 2}', "--out", tmp_path / "r.json") == 0
    assert json.loads((tmp_path / "r.json").read_text())["beam_size"] == 2


def test_what_cannot_run_is_said_once_for_both(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("training.metrics.java._unavailable", lambda name: f"{name} is not here.")
    (tmp_path / "p.json").write_text(json.dumps({"a.jpg": "a dog", "b.jpg": "a man"}))
    files = [str(tmp_path / "p.json")] * 2
    assert compare.main([*files, "--annotations", str(data / "coco_val.json"), "--samples", "50"]) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "METEOR is left out. METEOR is not here.",
        "SPICE is left out. SPICE is not here.",
    ]


def test_images_without_captions_of_people_are_left_out(data, tmp_path):
    coco = json.loads((data / "coco_val.json").read_text())
    coco["images"].append({"id": 99, "file_name": "nobody.jpg"})
    (data / "more_val.json").write_text(json.dumps(coco))
    (tmp_path / "p.json").write_text('[{"image_id": 10, "caption": "a"}, {"image_id": 11, "caption": "b"}]')
    out = tmp_path / "results.json"
    assert (
        run("--annotations", data / "more_val.json", "--predictions", tmp_path / "p.json", "--out", out) == 0
    )
    assert json.loads(out.read_text())["images"] == 2


@pytest.mark.parametrize(
    "names",
    [
        ("val/1.jpg", "train/1.jpg"),
        ("val\\1.jpg", "1.jpg"),
        ("caf\u00e9/1.jpg", "https://x.org/1.jpg?size=2"),
    ],
)
def test_predictions_of_two_images_of_one_name_are_not_mixed_up(tmp_path, names):
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"image": name, "caption": "a dog"} for name in names]))
    with pytest.raises(CaptionBotError, match=r"captions of 2 images that '1\.jpg' may be"):
        captions_of([Example("1.jpg", ("a dog",), "val")], read_predictions(path))


@pytest.mark.parametrize(
    "name", ["val\\caf\u00e9.jpg", "cafe\u0301.jpg", "https://x.org/caf%C3%A9.jpg", "7", "caf\u00e9"]
)
def test_predictions_are_found_by_any_usual_name(tmp_path, name):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({name: "a dog"}))
    examples = [Example("caf\u00e9.jpg", ("a dog",), "val", 7)]
    assert captions_of(examples, read_predictions(path)) == {"caf\u00e9.jpg": "a dog"}


@pytest.mark.parametrize(
    "text", ['{"a.jpg": "one", "a.jpg": "two"}', "[" * 100_000, '{"a.jpg": ' + "1" * 5000 + "}"]
)
def test_predictions_that_are_none_are_a_sentence(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(CaptionBotError) as caught:
        read_predictions(tmp_path / "p.json")
    assert len(str(caught.value)) < 600


def test_photos_whose_names_are_not_utf8_are_compared(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    for file, caption in (("a.json", "a wall"), ("b.json", "a dog")):
        (tmp_path / file).write_text(json.dumps([{"image_id": name, "caption": caption}]))
    (tmp_path / "captions.json").write_text(json.dumps({name: ["a wall"], "other.jpg": ["a dog"]}))
    out = tmp_path / "out.json"
    flags = [
        "--annotations",
        tmp_path / "captions.json",
        "--split",
        "train",
        "--subset",
        "--no-meteor",
        "--out",
        out,
    ]
    split = next(e.split for e in load_dataset(tmp_path / "captions.json") if e.name == name)
    flags[3] = split
    assert (
        compare.main([str(a) for a in (tmp_path / "a.json", tmp_path / "b.json", *flags, "--samples", 5)])
        == 0
    )
    assert name in json.dumps(json.loads(out.read_bytes()), ensure_ascii=False)


def test_half_an_emoji_in_a_prediction_survives(data, tmp_path):
    half = r'[{"image_id": 10, "caption": "a \ud83d dog"}, {"image_id": 11, "caption": "b"}]'
    (tmp_path / "p.json").write_text(half)
    flags = ["--annotations", data / "coco_val.json", "--predictions", tmp_path / "p.json", "--per-image"]
    assert run(*flags, "--out", tmp_path / "o" / "results.json") == 0
    assert json.loads((tmp_path / "o" / "predictions.json").read_text()) == json.loads(half)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--scores", "nowhere.json"], "nowhere.json cannot be read"),
        (["--scores", "list.json"], "list.json has no scores; give the results.json"),
        (["--tried", "torn.json"], "torn.json is not JSON"),
        (["--search", '{"beams": 3}'], "There is no search option 'beams'"),
        (["--search", '{"beam_size": 0}'], "beam_size is 0; give a whole number"),
        (["--search", '{"sample": "no"}'], "sample is 'no'; give True or False."),
        (["--precision", "int8"], "Photos are no longer encoded in int8"),
        (["--name", "a/b"], "name is 'a/b'; give one that can be a file's"),
        (["--shared", "small.safetensors"], "--shared is small.safetensors; give the name of"),
        (["--shared", "../cnn.safetensors"], "--shared is ../cnn.safetensors; give the name of"),
        (["--shared", "torn.safetensors"], "torn.safetensors holds no weights"),
        (["--out", "list.json"], "The folder list.json cannot be made"),
        (["--other-scores", "list.json"], "'list.json' is not NAME=FILE"),
    ],
)
def test_mistakes_at_an_export_are_one_sentence(flags, sentence, tmp_path, monkeypatch, capsys):
    card = build_tiny_captioner(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "torn.json").write_text("[")
    (tmp_path / "torn.safetensors").write_bytes(b"x")
    assert export.main([str(card), "--name", "small", "--out", ".", *flags]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("small.*"))


def test_export_makes_a_compact_default_with_scores(tmp_path, data):
    run_card = build_tiny_captioner(tmp_path / "run", default=False)
    (tmp_path / "results.json").write_text(json.dumps({"CIDEr": 0.5, "Bleu_4": 0.2, "seconds": 3}))
    (tmp_path / "tried.json").write_text('[{"what": "nothing", "CIDEr": 0.1}]')
    flags = ["--name", "small", "--out", tmp_path / "ship", "--default", "--licence", "MIT"]
    flags += ["--search", '{"no_repeat_ngram_size": 2}']
    files = ["--scores", tmp_path / "results.json", "--tried", tmp_path / "tried.json"]
    files += ["--other-scores", f"coco={tmp_path / 'results.json'}"]
    assert export.main([str(a) for a in [run_card, *flags, *files]]) == 0
    card = json.loads((tmp_path / "ship" / "small.json").read_text())
    assert card["default"] is True
    assert card["storage"] == "int8"
    scores = {"Bleu_4": 0.2, "CIDEr": 0.5}
    assert card["scores"] == scores | {"coco": scores}
    assert card["search"] == {
        "beam_size": 3,
        "max_length": 8,
        "length_penalty": 0.7,
        "no_repeat_ngram_size": 2,
    }
    assert card["training"]["tried"][0]["what"] == "nothing"
    shipped = Captioner.from_pretrained(tmp_path / "ship", device="cpu")
    assert shipped.caption(load_image(data / "a.jpg"))[0].captions[0].words
