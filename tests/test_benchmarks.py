"""The benchmarks run, and docs/benchmarks.md has their table. How fast anything is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import build_tiny_captioner

from benchmarks.__main__ import END, PAGE, RESULTS, START, main, table
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
        (("search", "gpt2"), ("one hypothesis at a time", "times the floor", "`generate`", "ms")),
        pytest.param(
            ("photo", "folder"),
            ("heatmaps", "p99 against p50", "one by one", "GiB"),
            marks=pytest.mark.slow,
        ),
        (("pixels",), ("photos in memory, beam 5",)),
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
    ratios = [row["unit"].startswith("times") for row in found["rows"]]
    assert ratios == sorted(ratios, reverse=True)
    assert all(value > 0 for row in found["rows"] if row["unit"] for value in row["values"])
    same = [row["values"] for row in found["rows"] if "fp32" in row["name"] and "share" in row["name"]]
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


def test_the_table_in_the_docs_is_the_published_one():
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(START) == page.count(END) == 1
    if not RESULTS.is_file():
        pytest.skip("nothing was published yet: python -m benchmarks --publish")
    assert f"{START}\n{table(json.loads(RESULTS.read_text()))}\n{END}" in page


def test_ratios_are_of_runs_in_turns():
    order: list[str] = []
    ticks = iter(range(100))
    runs = {name: lambda name=name: order.append(name) for name in ("ours", "theirs")}
    times = in_turns(runs, 2, lambda: float(next(ticks)))
    assert order == ["ours", "theirs", "ours", "theirs"]
    assert times == {"ours": [1, 1], "theirs": [1, 1]}
    assert times_as_fast({"ours": [1, 2, 1], "theirs": [3, 8, 9]}, "ours", "theirs") == 4


def test_numbers_have_three_digits():
    assert Row("x", [2.1234, 0.01239, 12345.6], "ms").text() == "2.12, 0.0124, 12,346 ms"
