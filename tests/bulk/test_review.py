"""Reviews of alt texts: files that people edit by hand, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captionbot.bulk import alt_exports
from captionbot.bulk.review import (
    ACCEPTED,
    FAILED,
    TO_REVIEW,
    Entry,
    counts,
    csv_bytes,
    jsonl_bytes,
    opened,
    parse,
    queue,
)
from captionbot.errors import CaptionBotError

RECORD = {"image": "a.jpg", "model": "tiny", "captions": [{"text": "a dog", "log_prob": -1.0, "words": []}]}
ENTRIES = [
    Entry("a.jpg", "A dog.", False, "A dog.", 0.5, "unsure", "two say so", "", "tiny", RECORD),
    Entry("b, “c”.jpg", "My own; text", True, "A cat.", 0.25, "unknown", "", "", "tiny"),
    Entry("broken.jpg", error="broken.jpg is empty."),
]


@pytest.mark.parametrize(("name", "write"), [("r.csv", csv_bytes), ("r.JSONL", jsonl_bytes)])
def test_what_is_written_is_read_back(name, write):
    assert parse(write(ENTRIES), name) == ENTRIES
    assert [entry.state for entry in parse(write(ENTRIES), name)] == [TO_REVIEW, ACCEPTED, FAILED]


def test_records_are_those_of_captions_and_keep_all_that_they_had():
    line = json.loads(jsonl_bytes(ENTRIES[:1]))
    assert {key: line[key] for key in RECORD} == RECORD
    assert parse(jsonl_bytes(ENTRIES), "r.jsonl")[0].record == RECORD


def test_a_spreadsheet_may_save_it_in_its_own_way():
    saved = "\ufeffNote;Image;ALT;State;confidence\r\nx;a.jpg;Zwei  Hunde ö.;Accepted;0,5\r\n".encode()
    (entry,) = parse(saved, "r.csv")
    assert (entry.image, entry.alt, entry.state, entry.confidence) == (
        "a.jpg",
        "Zwei Hunde ö.",
        ACCEPTED,
        0.5,
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("c.csv", b"image,caption,log_prob,confidence,rank,error,model\n"
                  b"a.jpg,a photo of a dog,-1,0.5,1,,tiny\na.jpg,a cat,-2,0.4,2,,tiny\n"),
        ("c.jsonl", b'{"image": "a.jpg", "model": "tiny", "captions": [{"text": "a photo of a dog"}]}\n'),
    ],
)  # fmt: skip
def test_what_the_command_caption_wrote_is_a_review_too(name, data):
    (entry,) = parse(data, name)
    assert (entry.image, entry.alt, entry.state, entry.model) == ("a.jpg", "A dog.", TO_REVIEW, "tiny")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("r.txt", b"", "no review file"),
        ("r.csv", b"image,alt\na.jpg,\xf6\n", "not in UTF-8"),
        ("r.csv", b"name,alt\na.jpg,x\n", "no column"),
        ("r.csv", b"image,alt\na.jpg," + b"x" * 2001 + b"\n", "line 2 has an alt text of 2,001"),
        ("r.jsonl", b'{"image": "a.jpg"}\n[]\n{"image": "b.jpg"}\n', "line 2 is no record"),
        ("r.jsonl", b'{"image": 5}\n', "line 1 is no record"),
        ("r.jsonl", b"[" * 99_999 + b"\n", "line 1 is no record"),
        ("r.jsonl", b'{"image": "a.jpg", "captions": 5}\n', "line 1 is no record"),
    ],
)
def test_another_file_is_refused_with_a_reason(name, data, reason):
    with pytest.raises(CaptionBotError, match=reason):
        parse(data, name)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_file_that_a_kill_tore_is_gone_on_with_and_the_broken_are_tried_again(tmp_path: Path, ending):
    path = tmp_path / f"r.{ending}"
    write = csv_bytes if ending == "csv" else jsonl_bytes
    path.write_bytes(
        write(ENTRIES) + b'{"image": "d.j' if ending == "jsonl" else write(ENTRIES) + b"d.jpg,A d"
    )
    added = Entry("broken.jpg", "A cow.", False, "A cow.", 0.75, model="tiny")
    with opened(path) as file:
        assert list(file.entries) == ["a.jpg", "b, “c”.jpg"]
        with pytest.raises(CaptionBotError, match="Another run"), opened(path):
            pass
        file.add([added])
    assert parse(path.read_bytes(), str(path)) == [*ENTRIES[:2], added]


def test_columns_of_one_s_own_stay(tmp_path: Path):
    path = tmp_path / "r.csv"
    path.write_text("image;who;alt;error\na.jpg;Ann;A dog.;\nb.jpg;;;broken\n")
    with opened(path) as file:
        file.add([Entry("c.jpg", "A cat.", caption="A cat.")])
    assert path.read_text() == "image;who;alt;error\na.jpg;Ann;A dog.;\nc.jpg;;A cat.;\n"


def test_the_least_sure_are_looked_at_first_and_the_broken_last():
    entries = [
        Entry("sure", "x", confidence=0.9, band="sure"),
        Entry("failed", error="no"),
        Entry("unsure", "x", confidence=0.5, band="unsure"),
        Entry("unknown", "x", confidence=0.6, band="unknown"),
        Entry("unsurer", "x", confidence=0.4, band="unsure"),
    ]
    assert [entries[place].image for place in queue(entries)] == [
        "unknown", "unsurer", "unsure", "sure", "failed",
    ]  # fmt: skip
    assert counts(ENTRIES) == {TO_REVIEW: 1, ACCEPTED: 1, FAILED: 1}


def test_names_of_archives_lead_nowhere_and_text_is_no_html():
    evil = Entry("../../etc/<b>.jpg", '"><script>', caption="x")
    assert [name for name, _ in alt_exports.texts([evil, evil])] == ["etc/<b>.txt", "etc/<b>.jpg.txt"]
    assert [name for name, _ in alt_exports.sidecars([evil])] == ["etc/<b>.jpg.xmp"]
    page = alt_exports.html([evil])
    assert "<script" not in page
    assert 'alt="&quot;&gt;&lt;script&gt;"' in page
