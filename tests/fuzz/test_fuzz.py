"""A minute of hostile files, and with `-m slow` 20,000 of them."""

from __future__ import annotations

import sys
from itertools import islice

import pytest

from fuzz import TARGETS

if sys.platform != "linux":
    pytest.skip("the fuzzing watches /proc, which is Linux's", allow_module_level=True)

from fuzz import _faults, runner
from fuzz.runner import fuzz

IN_CI, IN_ALL = 12, 20_000  # inputs: of a target, one at least of each kind, and of all targets together


def test_the_runner_sees_everything_that_can_go_wrong(monkeypatch):
    monkeypatch.setattr(runner, "MOST_SECONDS", 1.0)
    monkeypatch.setattr(runner, "MOST_BYTES", 300_000_000)
    found = {failure.name: failure.fault for failure in fuzz("_faults", 1, 11)}
    expected = {
        "long": "5000 characters",
        "lines": "several lines",
        "error": "ValueError: not ours",
        "panic": "Panic: in Rust",
        "memory": "more than 0.3 GB",
        "spins": "more than 1 s",
        "crash": "ended the process",
        "prints": "Traceback",
        "exits": "SystemExit",
    }
    assert set(found) == set(expected)
    for name, said in expected.items():
        assert said in found[name]
    assert [name for name, _ in islice(_faults.inputs(1), 2)] == ["good", "sentence"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_minute_of_hostile_files(target):
    assert [str(failure) for failure in fuzz(target, 1, IN_CI)] == []


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_20000_hostile_files(target):
    assert [str(failure) for failure in fuzz(target, 2, IN_ALL // len(TARGETS))] == []
