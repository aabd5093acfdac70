"""What people read of a captioner's judgement, in text, tables and records."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest

from captionbot.bulk.records import caption_fields, write_csv, written
from captionbot.pages.presenters.judgement import band
from captionbot.text.judgement import in_brief, measure, said
from captionbot.types import Caption, Captioned, Judgement, Search, Size, Word

WORDS = (Word("a", -0.1), Word("frisbee", -2.0))
PLAIN = Caption("a frisbee", WORDS, -2.1, -1.0, 0.35, np.ones((2, 1)), np.zeros((1, 4)), None, Size(4, 4))
DOUBT = Judgement(0.31, "unsure", "the word “frisbee” is doubtful", 1, "an animal", 0.9)
JUDGED = dataclasses.replace(PLAIN, judgement=DOUBT)
SEARCH = Search(((),), *[np.zeros((0, 1, 0))] * 7)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("sure", "A frisbee."), ("unsure", "Perhaps a frisbee."), ("unknown", "At a guess, a frisbee.")],
)
def test_a_sentence_is_worded_as_sure_as_it_is(kind, sentence):
    assert said(dataclasses.replace(PLAIN, judgement=Judgement(0.5, kind))) == sentence


def test_without_a_judgement_there_is_a_likelihood_and_no_band():
    assert (said(PLAIN), measure(PLAIN)) == ("A frisbee.", "Likelihood 35%")
    assert (band(PLAIN).kind, band(PLAIN).note) == ("", "")
    assert "judgement" not in caption_fields(PLAIN)


def test_a_band_has_its_reason_and_what_is_known_all_the_same():
    note = "Unsure. The word “frisbee” is doubtful. What I can say: an animal (90%)."
    assert measure(JUDGED) == "31% likely to be right"
    assert band(JUDGED).note.startswith(note)
    assert "BLIP, may know it: choose it" in band(JUDGED, {"blip-base": "BLIP"}).note
    assert in_brief(DOUBT) == "unsure: the word “frisbee” is doubtful"


def test_files_have_the_judgement_in_columns_and_keys_of_its_own(tmp_path):
    out = io.StringIO()
    write_csv([("x.jpg", Captioned((JUDGED, PLAIN), SEARCH))], "tiny", out)
    first, second = csv.DictReader(io.StringIO(out.getvalue()))
    told = [first[name] for name in ("probability", "band", "doubtful_word", "general")]
    assert told == ["0.3100", "unsure", "frisbee", "an animal"]
    assert (second["caption"], second["band"], second["model"]) == ("a frisbee", "", "tiny")
    assert json.loads(json.dumps(caption_fields(JUDGED)))["judgement"] == dataclasses.asdict(DOUBT)
    path = tmp_path / "captions.csv"
    path.write_text(out.getvalue())
    assert written(path, "tiny", as_csv=True) == ({"x.jpg": 1}, path.stat().st_size)
