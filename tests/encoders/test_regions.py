"""Region features: boxes of a detector, seen through a CNN; and how they travel to the pages."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import WORDS

from captionbot.backends.cpu.cnn import PackedEncoder
from captionbot.captioner import Captioner
from captionbot.decoders import build_decoder
from captionbot.encoders import build_encoder
from captionbot.encoders.grid import GridConfig, GridEncoder
from captionbot.encoders.regions import (
    COCO_CLASSES,
    WHOLE_IMAGE,
    Detections,
    Detector,
    RegionEncoder,
    RegionsConfig,
    coco_classes,
)
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.text.vocabulary import Vocabulary

OPTIONS = {
    "backbone_name": "mobilenetv2_100", "backbone_args": {}, "backbone_indices": [3, 4],
    "image_size": [64, 64], "num_classes": 80, "min_level": 4, "max_level": 5, "num_levels": 2,
    "fpn_channels": 16, "fpn_cell_repeats": 1, "box_class_repeats": 1, "anchor_scale": 1.5,
}  # fmt: skip
CONFIG = RegionsConfig(
    "mobiledetv2_110d", OPTIONS, max_regions=3, threshold=0.0, architecture="mobilenet_v2", layer="features.6"
)


class Finds(torch.nn.Module):
    """Detections that a test chose, in the detector's place."""

    def __init__(self, found):
        super().__init__()
        self.found, self.classes = found, COCO_CLASSES

    def forward(self, pixels, threshold, overlap):
        return self.found


def detections(*rows):
    """Rows x0, y0, x1, y1, label, score."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4].long(), table[:, 5])


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return RegionEncoder(CONFIG).eval()


def finding(encoder, *found, **changes):
    """The encoder with other boxes and configuration, and the same CNN."""
    other = RegionEncoder.__new__(RegionEncoder)
    other.__dict__.update(encoder.__dict__)
    other._modules = {**encoder._modules, "detector": Finds(list(found))}
    other.config = dataclasses.replace(encoder.config, **changes)
    return other


@torch.inference_mode()
def test_a_box_on_whole_cells_is_their_mean(encoder):
    torch.manual_seed(1)
    pixels = torch.randn(2, 3, 64, 64)
    cells = encoder.grid(pixels).values.unflatten(1, (8, 8))  # (2, 8, 8, C)
    one = detections([0.25, 0.5, 0.75, 1.0, 16, 0.9], [0.0, 0.0, 0.125, 0.125, 0, 0.4])
    features = finding(encoder, one, detections())(pixels)
    assert features.values.shape == (2, 3, 32)
    whole, dog, person = features.values[0]
    torch.testing.assert_close(whole, cells[0].mean((0, 1)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dog, cells[0, 4:8, 2:6].mean((0, 1)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(person, cells[0, 0, 0], rtol=1e-4, atol=1e-5)
    assert features.labels == ((WHOLE_IMAGE, "dog", "person"), (WHOLE_IMAGE,))
    assert features.scores.tolist() == [[1, pytest.approx(0.9), pytest.approx(0.4)], [1, 0, 0]]
    assert features.mask.tolist() == [[True] * 3, [True, False, False]]
    torch.testing.assert_close(features.values[1, 0], cells[1].mean((0, 1)), rtol=1e-4, atol=1e-5)
    assert features.boxes[1, 0].tolist() == [0, 0, 1, 1]


@torch.inference_mode()
def test_no_more_boxes_than_are_asked_for_and_the_best_of_them(encoder):
    boxes = detections(*([0.1, 0.1, 0.2 + i / 50, 0.5, i, 1 - i / 50] for i in range(40)))
    pixels = torch.zeros(1, 3, 64, 64)
    for many in (10, 36):
        features = finding(encoder, boxes, max_regions=many)(pixels)
        assert features.labels[0] == (WHOLE_IMAGE, *COCO_CLASSES[:many])
        assert features.mask.all()
        assert features.values.shape[1] == many + 1


@torch.inference_mode()
def test_geometry_comes_behind_the_features(encoder):
    features = finding(encoder, detections([0.25, 0.5, 0.75, 1.0, 0, 0.9]), geometry=True)(
        torch.zeros(1, 3, 64, 64)
    )
    assert features.values[0, :, 32:].tolist() == [[0, 0, 1, 1, 1], [0.25, 0.5, 0.75, 1.0, 0.25]]


@torch.inference_mode()
def test_the_detector_sees_pixels_as_they_were_before_the_cnns_normalisation(encoder):
    seen = []

    class Watches(Finds):
        def forward(self, pixels, *rest):
            seen.append(pixels)
            return self.found

    pixels = torch.rand(1, 3, 64, 64)
    other = finding(encoder, detections())
    other._modules["detector"] = Watches([detections()])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CONFIG.mean, CONFIG.std))
    other((pixels - mean) / std)
    torch.testing.assert_close(seen[0], pixels)


@torch.inference_mode()
def test_detections_are_decoded_as_effdet_decodes_them():
    """Against effdet's own bench, which keeps every class of an anchor: the best of each are compared."""
    from effdet.bench import DetBenchPredict

    torch.manual_seed(0)
    detector = Detector("mobiledetv2_110d", OPTIONS).eval()
    torch.nn.init.normal_(detector.net.class_net.predict.conv_pw.weight, std=0.5)
    pixels = torch.rand(2, 3, 64, 64)
    bench = DetBenchPredict(detector.net)
    expected = bench((pixels - detector.mean) / detector.std)  # (2, 100, 6) x0 y0 x1 y1 score class
    found = detector(pixels, threshold=0.0, overlap=0.5)
    for rows, ours in zip(expected, found, strict=True):
        assert ours.scores.diff().le(0).all()
        inside = (rows[:, :4] / 64).clamp(0, 1)
        best = int(rows[:, 4].argmax())
        torch.testing.assert_close(ours.boxes[0], inside[best])
        assert float(ours.scores[0]) == pytest.approx(float(rows[best, 4]))
        assert int(ours.labels[0]) + 1 == int(rows[best, 5])


@torch.inference_mode()
def test_boxes_of_a_class_give_way_to_better_ones_and_to_no_other_class(monkeypatch):
    detector = Detector("mobiledetv2_110d", OPTIONS).eval()
    logits = torch.full((1, len(detector.anchors), 80), -9.0)
    near = (detector.anchors - detector.anchors[40]).abs().sum(1).argsort()[:3]
    for place, (anchor, label) in enumerate(zip(near.tolist(), (0, 0, 16), strict=True)):
        logits[0, anchor, label] = 3.0 - place
    monkeypatch.setattr(
        detector, "outputs", lambda pixels: (logits, torch.zeros(1, len(detector.anchors), 4))
    )
    (loose,) = detector(torch.zeros(1, 3, 64, 64), 0.5, overlap=0.99)
    (tight,) = detector(torch.zeros(1, 3, 64, 64), 0.5, overlap=0.01)
    assert loose.labels.tolist() == [0, 0, 16]
    assert tight.labels.tolist() == [0, 16]
    (none,) = detector(torch.zeros(1, 3, 64, 64), 0.97, overlap=0.5)
    assert len(none.boxes) == 0


@torch.inference_mode()
def test_a_detector_looks_through_the_captioners_own_cnn():
    """It has no CNN, sees the maps of the captioner's at its own size, and follows its weights."""
    torch.manual_seed(0)
    config = dataclasses.replace(
        CONFIG,
        layer="features.17",
        detector_cnn="mobilenet_v2",
        detector_layers=("features.13", "features.17"),
    )
    encoder = RegionEncoder(config).eval()
    assert not [name for name in encoder.state_dict() if name.startswith("detector.net.backbone")]
    pixels = torch.randn(2, 3, 96, 96)
    resized = torch.nn.functional.interpolate(pixels, (64, 64), mode="bilinear", antialias=True)
    fine, coarse = encoder.maps(pixels)
    assert (fine.shape, coarse.shape) == ((2, 96, 4, 4), (2, 320, 2, 2))
    expected = encoder.grid(resized).values.transpose(1, 2).unflatten(2, (2, 2))
    torch.testing.assert_close(coarse, expected, rtol=1e-4, atol=1e-5)
    found = encoder(pixels)
    again = RegionEncoder(config, encoder.state_dict()).eval()
    torch.testing.assert_close(again(pixels).boxes, found.boxes)
    packed = PackedEncoder(encoder, torch.bfloat16)(pixels)
    torch.testing.assert_close(packed.boxes, found.boxes)
    for parameter in encoder.grid.parameters():
        parameter.mul_(0)
    assert not encoder.maps(pixels)[1].any()


def test_training_the_encoder_leaves_its_detector_alone():
    torch.manual_seed(0)
    encoder = RegionEncoder(CONFIG).train()
    before = {k: v.clone() for k, v in encoder.detector.state_dict().items()}
    encoder(torch.randn(2, 3, 64, 64)).values.square().sum().backward()
    assert not encoder.detector.training
    assert all(p.grad is None for p in encoder.detector.parameters())
    assert all(p.grad is not None for p in encoder.grid.parameters())
    assert all(torch.equal(v, before[k]) for k, v in encoder.detector.state_dict().items())


def test_weights_of_detector_and_cnn_are_told_apart(encoder):
    tensors = encoder.state_dict()
    again = RegionEncoder(CONFIG, tensors)
    assert all(torch.equal(v, tensors[k]) for k, v in again.state_dict().items())
    cnn = GridEncoder(GridConfig("mobilenet_v2", "features.6"))
    with pytest.raises(CaptionBotError, match="The weights do not fit"):
        RegionEncoder(
            dataclasses.replace(CONFIG, layer="features.4"),
            {f"grid.{k}": v for k, v in cnn.state_dict().items()},
        )


def test_names_for_the_outputs_of_official_detectors():
    names = coco_classes(90)
    assert names[0] == "person"
    assert names[17] == "dog"  # COCO's id 18
    assert names[89] == "toothbrush"
    assert tuple(n for n in names if n) == coco_classes(80)
    with pytest.raises(CaptionBotError, match="A detector of 1600 classes needs their names"):
        coco_classes(1600)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"detector": "efficientdet_d99"}, "'efficientdet_d99' is not a detector of effdet; choose one of"),
        ({"detector_options": {"backbone": "x"}}, "effdet's configurations have no 'backbone'"),
        ({"classes": ("cat",)}, "has 80 classes and 1 names"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(changes, sentence):
    with pytest.raises(CaptionBotError, match=sentence):
        RegionEncoder(dataclasses.replace(CONFIG, **changes))


def test_a_captioner_of_regions_shows_its_boxes_labels_and_scores(tmp_path):
    """Saved compactly, loaded again, and asked about two photos of different shapes at once."""
    torch.manual_seed(0)
    vocabulary = Vocabulary.build([WORDS])
    spec = {"kind": "regions", **dataclasses.asdict(CONFIG), "geometry": True}
    decoder = {
        "kind": "top-down", "vocabulary_size": len(vocabulary), "feature_size": 37, "annotation_size": 16,
        "embedding_size": 16, "hidden_size": 16, "attention_size": 16,
    }  # fmt: skip
    card = Card(
        name="regions",
        family="top-down",
        encoder=spec,
        decoder=decoder,
        preprocessing=dataclasses.asdict(Preprocessing((64, 64), CONFIG.mean, CONFIG.std)),
        vocabulary=vocabulary.tokens,
    )
    parts = [
        build(s["kind"], {k: v for k, v in s.items() if k != "kind"})
        for build, s in ((build_encoder, spec), (build_decoder, decoder))
    ]
    path = cards.save(tmp_path, card, *parts, storage="int8-all")
    captioner = Captioner.from_pretrained(path, device="cpu")
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (h, 80, 3), np.uint8)) for h in (50, 120)]
    captioner.encoder.detector.forward = lambda *_: [
        detections([0.0, 0.0, 0.5, 0.5, 16, 0.75], [0.5, 0.0, 1.0, 1.0, 0, 0.5]),
        detections([0.0, 0.5, 1.0, 1.0, 1, 0.25]),
    ]
    first, second = (c.captions[0] for c in captioner.caption(images, beam_size=2, max_length=5))
    assert first.labels == (WHOLE_IMAGE, "dog", "person")
    assert second.labels == (WHOLE_IMAGE, "bicycle")
    assert second.scores.tolist() == [1, 0.25]
    assert second.boxes.tolist() == [[0, 0, 80, 120], [0, 60, 80, 120]]
    assert second.alphas.shape == (len(second.words), 2)
    np.testing.assert_allclose(second.alphas.sum(1), 1, rtol=1e-5)
