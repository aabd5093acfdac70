"""Captions as dictionaries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from captionbot.bulk.records import error_record, record, write_csv, written
from captionbot.errors import CaptionBotError
from captionbot.types import Caption, Captioned, Search, Size, Word

CAPTION = Caption(
    text="a dog",
    words=(Word("a", -0.25), Word("dog", np.float32(-1.5))),
    log_prob=np.float64(-2.0),
    score=-1.0,
    confidence=0.5,
    alphas=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
    boxes=np.array([[0, 0, 10, 20], [10, 0, 20, 20]], np.float32),
    grid=(1, 2),
    image_size=Size(20, 20),
)
NOTHING = np.zeros((0, 1, 0))
CAPTIONED = Captioned((CAPTION,), Search(((),), *[NOTHING] * 7))


def test_a_record_is_the_line_of_the_contract() -> None:
    words = [{"text": "a", "log_prob": -0.25}, {"text": "dog", "log_prob": -1.5}]
    assert record("x.jpg", "tiny", CAPTIONED) == {
        "image": "x.jpg",
        "model": "tiny",
        "captions": [{"text": "a dog", "log_prob": -2.0, "words": words}],
    }


def test_a_record_with_alphas_says_where_the_model_looked() -> None:
    line = json.loads(json.dumps(record("x.jpg", "tiny", CAPTIONED, with_alphas=True)))
    [caption] = line["captions"]
    assert [word["alphas"] for word in caption["words"]] == [[0.75, 0.25], [0.5, 0.5]]
    assert caption["boxes"] == [[0, 0, 10, 20], [10, 0, 20, 20]]
    assert (caption["grid"], caption["image_size"]) == ([1, 2], [20, 20])


@pytest.mark.parametrize("name", [5, ["x"], None, {}])
def test_a_line_whose_image_has_no_name_is_not_gone_on_with(tmp_path: Path, name: object) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps({"image": image}) + "\n" for image in (name, "a.jpg")))
    with pytest.raises(CaptionBotError, match="line 1 is no record of captions"):
        written(path, "tiny")


def test_a_row_that_somebody_added_is_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    with path.open("w") as out:
        write_csv([("a.jpg", CaptionBotError("no"))], "tiny", out)
    whole = path.read_bytes()
    for torn in (b"b.j", b'"b', b'"b\n', b"b.jpg,,,,,no", b"b.jpg,,,,,no,", b"\0\0", b"\n"):
        path.write_bytes(whole + torn)
        assert written(path, "tiny", as_csv=True)[1] <= len(whole) + 1
    for added in (b"checked by Ann\n", b"b.jpg,,,,,no,,and more\n"):
        path.write_bytes(whole + added)
        with pytest.raises(CaptionBotError, match=f"after byte {len(whole)} is no row"):
            written(path, "tiny", as_csv=True)


def test_a_line_of_endless_depth_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text("[" * 99_999 + "\n")
    with pytest.raises(CaptionBotError, match="line 1 is no record of captions"):
        written(tmp_path / "captions.jsonl", "tiny")


def test_an_error_has_no_captions() -> None:
    assert error_record("x.jpg", "It is empty.") == {"image": "x.jpg", "error": "It is empty."}
