"""What was measured of captioners, as pictures with their texts and their numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tiny import build_tiny_captioner

from captionbot.errors import CaptionBotError
from captionbot.pages.presenters.charts import Chart, html
from captionbot.pages.presenters.measured import picture, titles
from captionbot.pages.presenters.seen import Table
from captionbot.pages.work import Work


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    build_tiny_captioner(tmp_path)
    return tmp_path


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def measured(weights: Path) -> Path:
    row = {"name": "tiny", "Bleu_4": 0.1, "parameters": 1, "device": "cpu", "threads": 1}
    greedy = row | {"beam_size": 1, "CIDEr": 0.4, "images_per_second": 20.0}
    beam = row | {"beam_size": 5, "CIDEr": 0.5, "images_per_second": 10.0, "intervals": {"CIDEr": [0.4, 0.6]}}
    (weights / "leaderboard.json").write_text(json.dumps([greedy, beam]))
    curve = [{"loss": 3.1, "CIDEr": 0.1}, {"loss": 2.1, "CIDEr": 0.2}]
    stages = [
        {"stage": "language-model", "best": {"perplexity": 9.0, "epoch": 2}},
        {"stage": "cross-entropy", "best": {"CIDEr": 0.2, "epoch": 2}, "curve": curve},
        {"stage": "self-critical", "best": {"CIDEr": 0.3, "epoch": 4}},
    ]
    said = {
        "expected calibration error": 0.1,
        "bins": [{"from": 0.5, "photos": 10, "said": 0.55, "right": 0.4}],
        "risk by coverage": {"0.5": 0.1, "1": 0.3},
    }
    held_out = {"all": said, "one": said, "other": said}
    change(
        weights / "tiny.json",
        training={"stages": stages},
        confidence={"measured": {"level": 0.3, "held out": held_out}},
    )
    return weights


def test_all_that_was_measured_is_drawn_with_its_numbers(measured: Path) -> None:
    charts = [picture(Work(), title) for title in titles(Work())]
    assert [chart.title for chart in charts] == titles(Work())
    title = "Show, Attend and Tell"
    scores, bleu, speed, training, sure, risk = charts
    assert scores.table.written == [
        [title, "greedy", "0.400", ""],
        [title, "beam 5", "0.500", "0.400 to 0.600"],
    ]
    assert scores.text == f"CIDEr of 1 captioners: from 0.400 to 0.500, which {title} has."
    assert speed.table.written[0] == [title, "greedy", "20.0", "0.400"]
    assert "CPU, 1 thread." in speed.note
    assert "Not timed" not in speed.note
    assert training.table.written == [  # epochs are counted on from the best one of the stage before
        [title, "2", "cross-entropy", "3", "0.100"],
        [title, "2", "cross-entropy", "4", "0.200"],
        [title, "3", "self-critical", "8", "0.300"],
    ]
    assert sure.table.written == [[of, "10", "55%", "40%", "0.168 to 0.687"] for of in ("one", "other")]
    assert risk.table.written[:2] == [["one", "50%", "10%"], ["one", "100%", "30%"]]
    assert all(chart.svg.startswith("<svg") for chart in charts)

    assert bleu.table.titles[2] == "BLEU-4"
    page = html(scores)
    assert f'alt="{scores.text}"' in page
    assert page.count("<tr>") == 3
    (measured / "leaderboard.json").write_text("[]")  # what is drawn follows the files
    assert titles(Work()) == [training.title, sure.title, risk.title]
    with pytest.raises(CaptionBotError, match="There is no picture “CIDEr”; choose one of Training"):
        picture(Work(), "CIDEr")


def test_where_nothing_was_measured_nothing_is_drawn(weights: Path) -> None:
    (weights / "broken.json").write_text("{}")  # a damaged card hides its own alone
    assert titles(Work()) == []


def test_names_of_cards_are_no_markup() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    page = html(Chart(hostile, "<svg/>", hostile, hostile, Table((), [], hostile)))
    assert "<img src=x" not in page
    assert len(re.findall("<img", page)) == 1
