"""The benchmarks run, and docs/benchmarks.md has their table. How fast anything is, no test says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tiny import build_tiny_captioner

from benchmarks.__main__ import END, PAGE, README, RESULTS, START, in_short, main, table
from benchmarks.timing import Row, in_turns, times_as_fast
from captionbot.pages.samples import sample_photos


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not sample_photos():
        pytest.skip("needs the samples")
    folder = build_tiny_captioner(tmp_path / "weights").parent
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(folder))
    return folder


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (("search", "gpt2"), ("fp32 against sgrvinod's", "against its floor", "`generate`", "ms")),
        pytest.param(
            ("photo", "folder"),
            ("heatmaps", "95th percentile", "hidden copies", "one by one", "MiB at most"),
            marks=pytest.mark.slow,
        ),
        (("encoders", "pixels"), ("Times the floor", "mobilenet_v2", "Photos in memory")),
        pytest.param(("start",), ("import captionbot", "first caption"), marks=pytest.mark.slow),
    ],
)
def test_a_quick_run_prints_and_writes_one_table(weights, tmp_path, capsys, parts, names):
    page, numbers = tmp_path / "page.md", tmp_path / "numbers.json"
    page.write_text(f"Before.\n{START}\nold\n{END}\nAfter.\n")
    assert main(["--quick", "--parts", *parts, "--json", str(numbers), "--page", str(page)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    found = json.loads(numbers.read_text())
    assert table(found) == shown.rstrip("\n")
    assert page.read_text() == f"Before.\n{START}\n{shown}{END}\nAfter.\n"
    rows = [(part, row) for part in found["parts"] for row in part["rows"]]
    for part in found["parts"]:
        ratios = [row["unit"] == "times" for row in part["rows"]]
        assert ratios == sorted(ratios, reverse=True)
    assert all(len(row["values"]) == len(part["columns"]) for part, row in rows)
    assert all(value > 0 for _, row in rows for value in row["values"] if not math.isnan(value))
    same = [row["values"] for _, row in rows if "fp32" in row["name"] and "share" in row["name"]]
    assert len(same) == ("search" in parts) + ("gpt2" in parts)
    assert all(share == 1 for shares in same for share in shares)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--rounds", "-1"], "--rounds is -1; give 1 or more"),
        (["--json", "nowhere/found.json"], "there is no folder nowhere for found.json"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(flags, sentence, capsys):
    with pytest.raises(SystemExit):
        main([*flags, "--quick", "--parts", "search"])
    found = capsys.readouterr()
    assert sentence in found.err
    assert not found.out


def test_only_a_whole_run_is_published(capsys):
    for flags in (["--quick"], ["--parts", "search"]):
        with pytest.raises(SystemExit) as stop:
            main(["--publish", *flags])
        assert stop.value.code == 2
    assert "a whole run" in capsys.readouterr().err


def test_what_the_docs_say_is_what_was_published():
    page, readme = (path.read_text(encoding="utf-8") for path in (PAGE, README))
    for text in (page, readme):
        assert text.count(START) == text.count(END) == 1
    if not RESULTS.is_file():
        pytest.skip("nothing was published yet: python -m benchmarks --publish")
    found = json.loads(RESULTS.read_text())
    assert f"{START}\n{table(found)}\n{END}" in page
    assert f"{START}\n{in_short(found)}\n{END}" in readme
    assert table(found).split("### ")[0].count("**") == 2 * 5  # ratios, first of all
    assert in_short(found).count("**") == 2 * 3


def test_ratios_are_of_runs_in_turns():
    order: list[str] = []
    ticks = iter(range(100))
    runs = {name: lambda name=name: order.append(name) for name in ("ours", "theirs")}
    times = in_turns(runs, 2, lambda: float(next(ticks)))
    assert order == ["ours", "theirs", "ours", "theirs"]
    assert times == {"ours": [1, 1], "theirs": [1, 1]}
    assert times_as_fast({"ours": [1, 2, 1], "theirs": [3, 8, 9]}, "ours", "theirs") == 4


def test_numbers_have_three_digits():
    assert Row("x", [2.1234, 0.01239, 12345.6], "ms").cells() == ["2.12 ms", "0.0124 ms", "12,346 ms"]
    assert Row("x", [2.1234, math.nan], "times").cells() == ["2.12 ×", ""]
