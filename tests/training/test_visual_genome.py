"""Visual Genome's files, in their exact form and made here, as dataframes, boxes and captions."""

import json

import numpy as np
import pandas as pd
import pytest

from captionbot.errors import CaptionBotError
from training.data import visual_genome
from training.detector.data import read_boxes

ATTRIBUTES = [
    {
        "image_id": 1,
        "attributes": [
            {
                "synsets": ["clock.n.01"],
                "h": 339,
                "object_id": 1058498,
                "names": ["Clock"],
                "w": 79,
                "attributes": ["green", "Multi-Colored", "green", "ticking"],
                "y": 91,
                "x": 421,
            },
            {
                "synsets": ["man.n.01"],
                "h": 262,
                "object_id": 1058507,
                "names": ["gentleman", "guy "],
                "w": 60,
                "y": 249,
                "x": 238,
            },
            {
                "synsets": [],
                "h": 10,
                "object_id": 5046,
                "names": ["thingummy"],
                "w": 20,
                "attributes": None,
                "y": 0,
                "x": 790,
            },
        ],
    },
    {
        "image_id": 2,
        "attributes": [
            {"synsets": [], "h": 300, "object_id": 9, "names": ["clock"], "w": 0, "y": 0, "x": 10},
            {"synsets": [], "h": 900, "object_id": 10, "names": ["street"], "w": 640, "y": 100, "x": 0},
        ],
    },
]
SIZES = [
    {
        "width": 800,
        "url": "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg",
        "height": 600,
        "image_id": 1,
        "coco_id": None,
        "flickr_id": None,
    },
    {
        "width": 640,
        "url": "https://cs.stanford.edu/people/rak248/VG_100K_2/2.jpg",
        "height": 480,
        "image_id": 2,
        "coco_id": 7,
        "flickr_id": 8,
    },
]
PHRASES = {1: ["the clock is green", "shade along the street", "a man walks ", "a sign"], 2: ["a street"]}
REGIONS = [
    {
        "id": image,
        "regions": [
            {
                "region_id": 10 * image + i,
                "width": 82,
                "height": 139,
                "image_id": image,
                "phrase": phrase,
                "y": 57,
                "x": 421,
            }
            for i, phrase in enumerate(phrases)
        ],
    }
    for image, phrases in PHRASES.items()
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vg").mkdir()
    for name, content in (
        ("attributes", ATTRIBUTES),
        ("image_data", SIZES),
        ("region_descriptions", REGIONS),
    ):
        (tmp_path / "vg" / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "objects_vocab.txt").write_text("street\nclock,clocks\nman,guy\n")
    (tmp_path / "attributes_vocab.txt").write_text("multi colored,multi-colored,multicolored\ngreen\n")
    return tmp_path


def frame_of(folder, file="attributes.json"):
    vocabularies = (
        visual_genome.read_vocabulary(folder / f"{n}_vocab.txt") for n in ("objects", "attributes")
    )
    return visual_genome.read_objects(folder / "vg" / file, *vocabularies)


def test_objects_have_their_classes_by_any_synonym(folder):
    frame = frame_of(folder)
    assert frame["name"].tolist() == ["clock", "guy", "thingummy", "clock", "street"]
    assert frame["object_class"].tolist() == [1, 2, 3, 1, 0]  # 3: other
    assert frame["attribute_classes"].tolist() == [(1, 0), (), (), (), ()]
    assert frame.loc[0, ["x0", "y0", "x1", "y1"]].tolist() == [421, 91, 500, 430]
    assert frame["image_id"].tolist() == [1, 1, 1, 2, 2]


def test_objects_json_gives_the_same_without_attributes(folder):
    bare = [{"image_id": i["image_id"], "image_url": "", "objects": i["attributes"]} for i in ATTRIBUTES]
    for image in bare:
        image["objects"] = [{k: v for k, v in o.items() if k != "attributes"} for o in image["objects"]]
    (folder / "vg" / "objects.json").write_text(json.dumps(bare))
    expected = frame_of(folder)
    expected["attribute_classes"] = [()] * 5
    pd.testing.assert_frame_equal(frame_of(folder, "objects.json"), expected)


def test_phrases(folder):
    phrases = visual_genome.read_phrases(folder / "vg" / "region_descriptions.json")
    assert phrases["phrase"].tolist()[2] == "a man walks"
    assert phrases.loc[4, ["image_id", "region_id", "x0", "y0", "x1", "y1"]].tolist() == [
        2,
        20,
        421,
        57,
        503,
        196,
    ]


@pytest.mark.parametrize("other", [False, True])
def test_the_command_makes_boxes_that_a_detector_learns_from(folder, other):
    flags = ["--other"] if other else []
    out = folder / "out" / "boxes.jsonl"
    command = [str(folder / "vg"), "--vocabulary", str(folder), "--out", str(out), *flags]
    assert visual_genome.main(command) == 0
    first, second = read_boxes(out)
    assert (first.image, second.image) == ("1.jpg", "2.jpg")
    assert {first.split, second.split} == {"train", "val"}
    assert first.found.labels.tolist() == ([1, 2, 3] if other else [1, 2])
    np.testing.assert_allclose(first.found.boxes[0], [421 / 800, 91 / 600, 500 / 800, 430 / 600], atol=1e-4)
    assert second.found.labels.tolist() == [0]  # the clock has no width
    np.testing.assert_allclose(second.found.boxes, [[0, 100 / 480, 1, 1]], atol=1e-4)


def test_the_papers_lists_are_read(shared):
    folder = shared / "data" / "visual_genome"
    objects = visual_genome.read_vocabulary(folder / "objects_vocab.txt")
    attributes = visual_genome.read_vocabulary(folder / "attributes_vocab.txt")
    assert len(set(objects.values())) == 1600
    assert len(set(attributes.values())) == 400
    assert attributes["grey"] == attributes["gray"] == 0


def test_files_of_another_form_are_answered_with_a_sentence(folder, capsys):
    (folder / "vg" / "attributes.json").write_text('[{"image_id": 1, "things": []}]')
    with pytest.raises(CaptionBotError, match=r"is not in the form of Visual Genome's attributes\.json"):
        frame_of(folder)
    (folder / "vg" / "attributes.json").unlink()
    command = [str(folder / "vg"), "--vocabulary", str(folder), "--out", str(folder / "boxes.jsonl")]
    assert visual_genome.main(command) == 2
    assert "There is no attributes.json or objects.json" in capsys.readouterr().err
