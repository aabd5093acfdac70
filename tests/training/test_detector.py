"""Training of a detector: teachers' boxes, what is made of them, and how agreement is measured."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from captionbot.errors import CaptionBotError
from training.detector import train as training
from training.detector.data import (
    Boxes,
    Labelled,
    average_precision,
    fuse,
    iou,
    label,
    open_teachers,
    read_boxes,
    write_boxes,
)

OPTIONS = {
    "backbone_name": "mobilenetv2_100", "backbone_args": {}, "backbone_indices": [3, 4],
    "image_size": [64, 64], "num_classes": 80, "min_level": 4, "max_level": 7, "num_levels": 4,
    "fpn_channels": 16, "fpn_cell_repeats": 1, "box_class_repeats": 1, "anchor_scale": 1.5,
}  # fmt: skip


def boxes(*rows):
    """Rows x0, y0, x1, y1, label, score."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4].astype(np.int64), table[:, 5])


def test_iou_is_shared_area_over_joint_area():
    found = iou(
        np.array([[0, 0, 2, 2], [0, 0, 1, 1.0]]), np.array([[1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 1, 1.0]])
    )
    np.testing.assert_allclose(found, [[2 / 6, 0, 1 / 4], [0, 0, 1]])


def test_boxes_that_agree_become_their_mean_weighted_by_score():
    one = boxes([0.0, 0.0, 0.4, 0.4, 16, 0.6], [0.6, 0.6, 0.9, 0.9, 0, 0.9])
    other = boxes([0.1, 0.0, 0.4, 0.4, 16, 0.2], [0.0, 0.0, 0.4, 0.4, 15, 0.8])
    fused = fuse([one, other], 0.0)
    assert fused.labels.tolist() == [0, 16, 15]  # the cat in the dog's place is a box of its own
    np.testing.assert_allclose(fused.scores, [0.45, 0.4, 0.4])
    np.testing.assert_allclose(fused.boxes[1], [0.1 * 0.2 / 0.8, 0, 0.4, 0.4], rtol=1e-6)
    assert fuse([one, other], 0.42).labels.tolist() == [0]
    assert len(fuse([boxes(), boxes()], 0.0)) == 0


def voc_ap(found, wanted, label, overlap=0.5):
    """Average precision once more, plainly: a list of all found boxes, then the area step by step."""
    entries = sorted(
        (
            (s, i, b)
            for i, f in enumerate(found)
            for b, c, s in zip(f.boxes, f.labels, f.scores, strict=True)
            if c == label
        ),
        key=lambda e: -e[0],
    )
    free = [[b for b, c in zip(w.boxes, w.labels, strict=True) if c == label] for w in wanted]
    total = sum(map(len, free))
    points, right = [], 0
    for n, (_, image, box) in enumerate(entries, 1):

        def shared(other, box=box):
            w = min(box[2], other[2]) - max(box[0], other[0])
            h = min(box[3], other[3]) - max(box[1], other[1])
            inter = max(w, 0) * max(h, 0)
            return inter / (
                (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - inter
            )

        best = max(range(len(free[image])), key=lambda j: shared(free[image][j]), default=None)
        if best is not None and shared(free[image][best]) >= overlap:
            del free[image][best]
            right += 1
        points.append((right / total, right / n))
    area, reached = 0.0, 0.0
    for recall, _ in points:
        if recall > reached:
            area += (recall - reached) * max(p for r, p in points if r >= recall)
            reached = recall
    return area


def test_average_precision_is_that_of_a_plain_computation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        wanted, found = [], []
        for _ in range(6):
            corner = rng.random((5, 2)) * 0.5
            real = np.concatenate(
                [corner, corner + 0.2 + rng.random((5, 2)) * 0.3, rng.integers(0, 2, (5, 1))], 1
            )
            wanted.append(boxes(*np.concatenate([real, np.ones((5, 1))], 1)))
            noisy = np.concatenate([real, real], 0)
            noisy[:, :4] += rng.normal(0, 0.04, (10, 4))
            found.append(boxes(*np.concatenate([noisy, rng.random((10, 1))], 1)))
        for c in (0, 1):
            assert average_precision(found, wanted, c) == pytest.approx(voc_ap(found, wanted, c), abs=1e-6)


def test_average_precision_of_cases_worked_out_by_hand():
    dog = [0.1, 0.1, 0.5, 0.5, 16]
    wanted = [boxes([*dog, 1]), boxes([*dog, 1])]
    assert average_precision(wanted, wanted, 16) == 1
    assert average_precision([boxes(), boxes()], wanted, 16) == 0
    assert average_precision([boxes([*dog, 0.9], [*dog, 0.8]), boxes()], wanted, 16) == 0.5  # found twice
    wrong_first = [boxes([0.6, 0.6, 0.9, 0.9, 16, 0.9], [*dog, 0.8]), boxes()]
    assert average_precision(wrong_first, wanted, 16) == 0.25
    assert np.isnan(average_precision(wanted, wanted, 0))


def test_boxes_survive_a_file_and_a_run_that_broke_off(tmp_path):
    path = tmp_path / "boxes.jsonl"
    lines = [
        Labelled("a.jpg", "train", boxes([0.1, 0.2, 0.3, 0.4, 7, 0.5])),
        Labelled("b.jpg", "val", boxes()),
    ]
    write_boxes(path, lines)
    with path.open("a") as file:
        file.write('{"image": "c.jpg", "spl')
    first, second = read_boxes(path)
    assert (first.image, first.split, second.image, second.split) == ("a.jpg", "train", "b.jpg", "val")
    np.testing.assert_allclose(first.found.boxes, lines[0].found.boxes)
    assert first.found.labels.tolist() == [7]
    assert len(second.found) == 0
    path.write_text('{"image": "a.jpg"}\n')
    with pytest.raises(CaptionBotError, match=r"Line 1 of .* has no image with split"):
        read_boxes(path)


def test_teachers_find_the_people_and_dogs_of_real_photos(shared):
    teachers = open_teachers(shared / "weights")
    images = [
        Image.open(shared / "data" / "photos" / f"{n}.jpg")
        for n in ("1056249424_ef2a2e041c", "1476241331_2f43b67aed")
    ]
    found = [label(image.convert("RGB"), teachers, 0.3) for image in images]
    assert {int(c) for f in found for c in f.labels} & {0, 16}
    for image, f in zip(images, found, strict=True):
        mirrored = label(image.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT), teachers, 0.3)
        assert len(mirrored) == len(f)
        assert iou(mirrored.mirrored().boxes, f.boxes).max(1).min() > 0.8


def test_torchvisions_mobilenet_becomes_the_backbone(shared):
    """The same photo gives the same features: layers, order and norms are all where they belong."""
    import torchvision
    from safetensors.torch import load_file

    path = shared / "weights" / "mobilenet_v2-imagenet.safetensors"
    detector = training.build_detector(training.DetectorConfig("mobiledetv2_110d", OPTIONS)).eval()
    training.load_backbone(detector, path)
    reference = torchvision.models.mobilenet_v2()
    reference.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        stride_16, stride_32 = detector.net.backbone(pixels)
        features = reference.eval().features
        torch.testing.assert_close(stride_16, features[:14](pixels), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(stride_32, features[:18](pixels), rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Photos with one bright square on black, of class 0 where red and 1 where green."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    labelled = []
    for i in range(32):
        pixels = np.zeros((64, 64, 3), np.uint8)
        x, y = rng.integers(0, 32, 2)
        pixels[y : y + 32, x : x + 32, i % 2] = 255
        Image.fromarray(pixels).save(folder / f"{i}.png")
        box = [x / 64, y / 64, (x + 32) / 64, (y + 32) / 64]
        labelled.append(Labelled(f"{i}.png", "val" if i >= 28 else "train", boxes([*box, i % 2, 0.9])))
    write_boxes(folder / "boxes.jsonl", labelled)
    values = {
        "detector": "mobiledetv2_110d", "detector_options": OPTIONS, "images": str(folder),
        "boxes": str(folder / "boxes.jsonl"), "cache": str(folder / "cache"), "batch_size": 7,
        "frozen_blocks": 0, "warmup_steps": 1, "amp": "off",
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


def loss_of(trainer):
    """Of all training photos, unmirrored, as they are at inference."""
    trainer.detector.eval()
    seen = trainer.inputs([b.image for b in trainer.boxes], np.zeros(len(trainer.boxes), bool))
    targets = trainer.labeler.batch_label_anchors(*trainer._wanted([b.found for b in trainer.boxes]))
    with torch.inference_mode():
        return float(trainer.loss(*trainer.detector.levels(seen), *targets)[0])


def test_training_learns_and_a_resumed_run_ends_where_a_whole_one_does(squares, tmp_path):
    config = training.load_detector_config(str(squares / "config.yaml"), epochs=3)
    whole = training.Trainer(config, tmp_path / "whole", torch.device("cpu"))
    before = loss_of(whole)
    whole.run()
    assert loss_of(whole) < 0.9 * before
    broken = training.Trainer(config, tmp_path / "broken", torch.device("cpu"))
    for images in broken._batches():
        broken._update(images)
        if broken.step == 5:
            break
    (tmp_path / "broken").mkdir()
    broken._save(tmp_path / "broken" / "checkpoint.pt")
    resumed = training.Trainer(config, tmp_path / "broken", torch.device("cpu"))
    resumed.run(resume=True)
    assert resumed.step == whole.step == 12
    for name, tensor in whole.detector.state_dict().items():
        torch.testing.assert_close(resumed.detector.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    results = training.evaluate(tmp_path / "whole", "val", tmp_path / "results.json")
    assert results["images"] == 4
    assert json.loads((tmp_path / "results.json").read_text())["AP50"] == results["AP50"]


@pytest.fixture(scope="module")
def through(squares, tmp_path_factory):
    """A run of a detector that looks through the CNN of a captioner, and a captioner of regions."""
    from tiny import build_region_captioner, build_tiny_captioner

    folder = tmp_path_factory.mktemp("through")
    card = build_tiny_captioner(folder / "grid")
    values = yaml.safe_load((squares / "config.yaml").read_text()) | {
        "captioner": str(card), "detector_cnn": "mobilenet_v2", "detector_layers": ["features.6"],
        "detector_options": {**OPTIONS, "min_level": 3, "num_levels": 5},
        "epochs": 12, "learning_rate": 0.01,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder, build_region_captioner(folder / "regions")


def test_a_detector_behind_a_captioners_cnn_learns_and_is_put_into_a_captioner(through, squares, tmp_path):
    from tiny import build_region_captioner

    folder, regions = through
    config = training.load_detector_config(str(folder / "config.yaml"))
    trainer = training.Trainer(config, folder / "run", torch.device("cpu"))
    names = [b.image for b in trainer.boxes]
    seen, mirrored = (trainer.inputs(names[:2], np.full(2, side)) for side in (False, True))
    assert seen[0].shape == mirrored[0].shape == (2, 32, 8, 8)
    assert not torch.equal(seen[0], mirrored[0])
    before = loss_of(trainer)
    trainer.run()
    assert loss_of(trainer) < 0.9 * before
    results = training.evaluate(folder / "run", "val", None)
    assert results["images"] == 4
    old, encoder, _ = training.cards.load(regions)
    encoder.config = dataclasses.replace(encoder.config, threshold=0.0)
    card = training.install(folder / "run", str(regions), tmp_path, threshold=0.25)
    new, installed, _ = training.cards.load(card)
    assert (new.name, new.decoder, new.vocabulary) == (old.name, old.decoder, old.vocabulary)
    assert new.encoder["detector_cnn"] == "mobilenet_v2"
    assert (old.encoder["threshold"], new.encoder["threshold"]) == (0.0, 0.25)
    trained = load_file(folder / "run" / "detector.safetensors")
    assert all(torch.equal(t, trained[n]) for n, t in installed.detector.state_dict().items())
    assert not [name for name in load_file(card.with_suffix(".safetensors")) if "backbone" in name]
    assert torch.equal(
        installed.grid.state_dict()["cnn.features.0.0.weight"],
        encoder.grid.state_dict()["cnn.features.0.0.weight"],
    )
    assert training.evaluate(folder / "run", "val", None, str(card))["images"] == 4
    training.start_from(trainer.detector, str(card))  # as `--init top-down` does
    assert all(torch.equal(t, trained[n]) for n, t in trainer.detector.state_dict().items())
    with pytest.raises(CaptionBotError, match="is built differently from the one to be trained"):
        training.start_from(trainer.detector, str(build_region_captioner(tmp_path / "other")))


def one_square(pixels):
    """A teacher of photos of one square."""
    y, x, channel = np.nonzero(pixels > 128)
    return boxes([x.min() / 416, y.min() / 416, x.max() / 416, y.max() / 416, channel[0], 0.9])


def test_a_run_goes_on_with_several_data_sets(squares, tmp_path, monkeypatch):
    """Labelled, learnt from as often as the mixture says, from an earlier run's weights, and judged apart."""
    for name, numbers in (
        ("often", [*range(8), 28, 29]),
        ("alone", range(8, 14)),
        ("once", [*range(14, 22), 30]),
    ):
        (tmp_path / name).mkdir()
        for i in numbers:
            (tmp_path / name / f"{i}.png").write_bytes((squares / f"{i}.png").read_bytes())
        rows = [
            {"image": f"{i}.png", "captions": ["a"], "split": "val" if i > 27 else "train"} for i in numbers
        ]
        if name != "alone":
            (tmp_path / name / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    mixture = tmp_path / "three.mixture.yaml"
    mixture.write_text(
        f"- {{data: {tmp_path}/often, repeat: 2}}\n- {{images: [{tmp_path}/alone], repeat: 0.5}}\n"
        f"- {{data: {tmp_path}/once}}\n"
    )
    monkeypatch.setattr(training, "open_teachers", lambda *given: [one_square])
    found = tmp_path / "boxes.jsonl"
    assert training.main(["label", "--data", str(mixture), "--teachers", ".", "--out", str(found)]) == 0
    assert len(read_boxes(found)) == 25

    values = yaml.safe_load((squares / "config.yaml").read_text())
    del values["images"]
    values |= {"boxes": str(found), "cache": str(tmp_path), "backbone_learning_rate": 0}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    train = ["train", "--config", str(tmp_path / "c.yaml"), "--data", str(mixture), "--epochs", "1"]
    assert training.main([*train, "--out", str(tmp_path / "first")]) == 0
    second = ["--init", str(tmp_path / "first"), "--learning-rate", "0", "--no-mirror"]
    assert training.main([*train, *second, "--out", str(tmp_path / "second")]) == 0
    config = training.load_run_config(tmp_path / "second")
    assert (config.mirror, config.learning_rate) == (False, 0)
    before, after = (load_file(tmp_path / run / "detector.safetensors") for run in ("first", "second"))
    learnt = [name for name, _ in training.build_detector(config).named_parameters()]
    for name in learnt:
        torch.testing.assert_close(before[name], after[name], rtol=1e-5, atol=1e-7)

    trainer = training.Trainer(config, tmp_path / "second", torch.device("cpu"))
    epochs = [Counter(trainer.boxes[i].source for i in trainer._epoch(number)) for number in range(9)]
    assert epochs == [{"often": 16, "alone": 3, "once": 8}] * 9
    assert trainer.steps == 3
    drawn = [{i for i in trainer._epoch(number) if trainer.boxes[i].source == "alone"} for number in range(9)]
    assert len(set.union(*drawn)) == 6

    results = training.evaluate(tmp_path / "second", "val", None)
    assert [(s, r["images"]) for s, r in results["by data set"].items()] == [("often", 2), ("once", 1)]
    found.write_text("".join(found.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(CaptionBotError, match=r"1 of the 25 photos of .* have no boxes in"):
        training.evaluate(tmp_path / "second", "val", None)


def test_what_a_detector_needs_to_look_through_a_captioner_is_said(through, tmp_path):
    folder, _ = through
    config = training.load_detector_config(str(folder / "config.yaml"))
    with pytest.raises(CaptionBotError, match="needs captioner, detector_cnn and detector_layers; give all"):
        dataclasses.replace(config, detector_cnn="")
    with pytest.raises(
        CaptionBotError, match="looks through 'vgg16', and the captioner's CNNs are mobilenet_v2"
    ):
        training.build_encoder(dataclasses.replace(config, detector_cnn="vgg16"))
    with pytest.raises(
        CaptionBotError, match=r"have \[\(4, 4\)\] places, and the detector's levels from 3 have"
    ):
        training.build_encoder(dataclasses.replace(config, detector_layers=("features.10",)))
    with pytest.raises(CaptionBotError, match=r"The CNN has no layer 'features\.99'"):
        training.build_encoder(dataclasses.replace(config, detector_layers=("features.99",)))
    with pytest.raises(CaptionBotError, match="has no detector; give a captioner of the family top-down"):
        training.install(folder / "run", config.captioner, tmp_path)


def test_a_run_without_a_whole_batch_is_refused(squares, tmp_path):
    config = training.load_detector_config(str(squares / "config.yaml"), batch_size=29)
    with pytest.raises(CaptionBotError, match="has 28 photos of the split train; give no more"):
        training.Trainer(config, tmp_path, torch.device("cpu"))


def test_a_perfect_detector_agrees_fully():
    wanted = [boxes([0.1, 0.1, 0.5, 0.5, 0, 0.9], [0.3, 0.3, 0.9, 0.9, 1, 0.8])] * 3
    report = training.agreement(wanted, wanted, ("person", "bicycle"))
    assert report["AP50"] == report["AP50 by boxes"] == 1
    assert report["AP50 by class"]["bicycle"] == {"boxes": 3, "AP50": 1.0}


def test_encoder_weights_are_assembled_from_both_detectors_and_cnns(tmp_path):
    from tiny import build_tiny_captioner

    from captionbot.encoders import build_encoder

    regions = {"detector": "mobiledetv2_110d", "detector_options": OPTIONS, "architecture": "mobilenet_v2"}
    official = training.build_detector(training.DetectorConfig("mobiledetv2_110d", OPTIONS))
    torch.save(official.net.state_dict(), tmp_path / "official.pth")
    card = build_tiny_captioner(tmp_path / "tiny")
    training.assemble(tmp_path / "official.pth", str(card), tmp_path / "out.safetensors")
    encoder = build_encoder(
        "regions", {**regions, "layer": "features.10"}, load_file(tmp_path / "out.safetensors")
    )
    for name, tensor in official.state_dict().items():
        torch.testing.assert_close(encoder.detector.state_dict()[name], tensor.float(), check_dtype=False)
    with pytest.raises(CaptionBotError, match="There are no weights at"):
        training.assemble(tmp_path / "official.pth", str(tmp_path / "none.safetensors"), tmp_path / "b")


def test_shipped_configurations_build(shared):
    flickr = training.load_detector_config("flickr8k")
    detector = training.build_detector(flickr)
    assert 1.5e6 < sum(p.numel() for p in detector.parameters()) < 4e6
    coco = training.load_detector_config("coco")
    ships = training.cards.Card.load(training.find_card("top-down")).encoder
    assert (ships["detector"], ships["detector_options"]) == (coco.detector, coco.detector_options)
    assert (ships["detector_cnn"], ships["detector_layers"]) == (
        coco.detector_cnn,
        list(coco.detector_layers),
    )
    genome = training.load_detector_config("visual-genome")
    path = shared / "data" / "visual_genome" / "objects_vocab.txt"
    small = dataclasses.replace(
        genome,
        detector="mobiledetv2_110d",
        classes=str(path),
        detector_options={**OPTIONS, "num_classes": 1601},
    )
    names = training.build_detector(small).classes
    assert len(names) == 1601
    assert (names[0], names[1600]) == ("yolk", "other")


def test_a_learning_rate_may_be_written_as_people_do(tmp_path):
    (tmp_path / "own.yaml").write_text("learning_rate: 2e-4")  # which is text to YAML
    assert training.load_detector_config(str(tmp_path / "own.yaml")).learning_rate == 2e-4


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda folder: training.load_detector_config("flickr8k", epochs=0), "epochs is 0; give 1 or more"),
        (lambda folder: training.DetectorConfig(ema="fast"), "ema is fast; give a number"),
        (
            lambda folder: training.load_detector_config("flickr9k"),
            "There is no configuration 'flickr9k'; choose one of",
        ),
        (lambda folder: read_boxes(folder / "none.jsonl"), "make them with training.detector label"),
        (lambda folder: open_teachers(folder), "There is no detector at"),
    ],
)
def test_what_is_missing_is_said(call, sentence, tmp_path):
    with pytest.raises(CaptionBotError, match=sentence):
        call(tmp_path)


def test_the_command_answers_with_a_sentence(tmp_path, capsys):
    assert training.main(["train", "--config", "flickr9k", "--out", str(tmp_path)]) == 2
    assert "choose one of coco, flickr8k, visual-genome" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("epochs: soon", "epochs is soon; give a number."),
        ("epochs: 0", "epochs is 0; give 1 or more."),
        ("warmup_steps: 0", "warmup_steps is 0; give 1 or more."),
        ("ema: 5", "ema is 5.0; give a share from 0 to 1."),
        ("amp: 16", "amp is '16'; choose one of bf16"),
        ("detector_options: 5", "detector_options is 5; give fields"),
        ("batch_size: 100", "has 28 photos of the split train; give no more"),
    ],
)
def test_fields_that_make_no_sense_are_one_sentence(field, sentence, squares, tmp_path, capsys):
    values = yaml.safe_load((squares / "config.yaml").read_text()) | yaml.safe_load(field)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    assert training.main(["train", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert sentence in capsys.readouterr().err


def test_a_run_is_neither_replaced_nor_taken_over_by_mistake(squares, tmp_path, capsys):
    arguments = ["train", "--config", str(squares / "config.yaml"), "--out", str(tmp_path)]
    torch.save({"step": 1}, tmp_path / "checkpoint.pt")
    assert training.main(arguments) == 2
    assert "has a run already" in capsys.readouterr().err
    assert training.main([*arguments, "--resume"]) == 2
    assert "is of another captioner or stage" in capsys.readouterr().err


def test_teachers_and_outputs_are_looked_at_before_the_work(squares, tmp_path, capsys):
    (tmp_path / "yolox_nano.onnx").write_bytes(b"x")
    with pytest.raises(CaptionBotError, match="is no ONNX file that can be read"):
        open_teachers(tmp_path)
    assert training.main(["evaluate", str(squares), "--out", str(tmp_path)]) == 2
    assert "is a folder; give a file as --out" in capsys.readouterr().err
    assert training.main(["evaluate", str(squares)]) == 2
    assert "is no run of training.detector train" in capsys.readouterr().err


def test_a_split_without_boxes_is_named(squares, tmp_path):
    config = training.load_detector_config(str(squares / "config.yaml"), threshold=1.0)
    detector = training.build_detector(config)
    training.cards.save_part(tmp_path / "detector.safetensors", detector, "float32")
    (tmp_path / "detector.json").write_text(json.dumps(dataclasses.asdict(config)))
    with pytest.raises(CaptionBotError, match="has no boxes with a score of"):
        training.evaluate(tmp_path, "val", None)
