"""How runs are timed: in turns, so that what is compared meets the same machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median

import torch

from captionbot import CaptionBotError

Clock = Callable[[], float]
Times = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Row:
    """A line of a table, a value for each of its columns, NaN for none; the unit "times" makes it a ratio.

    unit: of all values, or one of each, parted by ", ".
    """

    name: str
    values: Sequence[float]
    unit: str

    def cells(self) -> list[str]:
        """The values with their unit, three digits each."""
        units = self.unit.replace("times", "×").split(", ")
        units = units * len(self.values) if len(units) == 1 else units
        digits = (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" for value in self.values)
        return ["" if n == "nan" else f"{n} {unit}".rstrip() for n, unit in zip(digits, units, strict=True)]


@dataclass(frozen=True)
class Part:
    """A table: what was measured, and how; the names of its columns; its lines, ratios first."""

    title: str
    how: str
    columns: Sequence[str]
    rows: Sequence[Row]

    def markdown(self) -> str:
        lines = [
            *(f"### {self.title}", "", self.how, ""),
            f"| | {' | '.join(self.columns)} |",
            "|---" * (1 + len(self.columns)) + "|",
            *(f"| {row.name} | {' | '.join(row.cells())} |" for row in self.rows),
        ]
        return "\n".join(lines)

    def value(self, name: str, column: int = 0) -> float:
        """Of the line of that name; KeyError where there is none."""
        found = {row.name: row.values for row in self.rows}
        return found[name][column]


def seconds(run: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    start = clock()
    run()
    return clock() - start


def in_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each run, round by round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, clock))
    return times


def times_as_fast(times: Times, fast: str, slow: str) -> float:
    """The median of the rounds' ratios."""
    return median(b / a for a, b in zip(times[fast], times[slow], strict=True))


@contextmanager
def some_threads(count: int) -> Iterator[None]:
    """So many threads of torch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def one_thread() -> AbstractContextManager[None]:
    """The processor's time is then that of the work, however busy the machine."""
    return some_threads(1)


# A process of its own between this one and the command: a child's greatest memory counts from its birth, when
# it was as large as its parent.
_WATCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def process(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and GiB that a command takes, with as many threads as torch has here."""
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    watched = [sys.executable, "-c", _WATCH, *command]
    done = subprocess.run(watched, stdout=subprocess.PIPE, env=environment, check=False)
    taken = time.perf_counter() - start
    if done.returncode:
        raise CaptionBotError(f"'{' '.join(command)}' ended with exit code {done.returncode}; run it alone.")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return taken, int(done.stdout) * unit / 2**30
