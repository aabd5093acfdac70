"""Sends inputs to child processes and watches them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from multiprocessing import Pipe
from pathlib import Path

MOST_SECONDS = 5.0  # of a processor, for one input
MOST_BYTES = 2 * 10**9  # resident
MOST_WAITED = 120.0  # seconds that may pass for one input, on a machine that is busy with others
MOST_SAID = 2000  # bytes on stderr, for one input

_ROOT = Path(__file__).resolve().parents[2]
_PAGE, _TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Failure:
    """An input that was not read well: `python -m fuzz --target T --seed S --only I` repeats it."""

    target: str
    seed: int
    index: int
    name: str
    fault: str

    def __str__(self) -> str:
        return f"{self.target}, seed {self.seed}, input {self.index} ({self.name[:80]!r}): {self.fault}"


def fuzz(target: str, seed: int, count: int, first: int = 0) -> Iterator[Failure]:
    """What goes wrong in `count` inputs of a target from number `first` on."""
    inputs = islice(enumerate(import_module(f"fuzz.{target}").inputs(seed)), first, first + count)
    child: _Child | None = None
    try:
        for index, (name, data) in inputs:
            child = child or _Child(target)
            if fault := child.attack(name, data):
                yield Failure(target, seed, index, name, fault)
            if not child.alive:
                child.close()
                child = None
    finally:
        if child:
            child.close()


class _Child:
    """One process, that reads inputs until one ends it."""

    def __init__(self, target: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")
        self._stderr = (Path(self._folder.name) / "stderr").open("w+b")
        self._pipe, theirs = Pipe()
        path = os.pathsep.join((str(_ROOT), str(_ROOT / "tests"), os.environ.get("PYTHONPATH", "")))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.child", target, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            cwd=_ROOT,
            env=os.environ
            | {
                "PYTHONPATH": path,
                "TMPDIR": self._folder.name,
                "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
            },
        )
        theirs.close()
        try:
            assert self._pipe.recv() == "ready"
        except EOFError:
            raise RuntimeError(f"the target {target} does not start: {self._said(0).decode()}") from None

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def attack(self, name: str, data: bytes) -> str:
        """What is wrong with how the child read an input, "" for nothing."""
        before, said, started = self._seconds(), self._stderr.seek(0, os.SEEK_END), time.monotonic()
        try:
            self._pipe.send((name, data))
            while not self._pipe.poll(0.01):
                if self._bytes() > MOST_BYTES:
                    return self._end(f"took more than {MOST_BYTES / 1e9:g} GB of memory")
                if self._seconds() - before > MOST_SECONDS:
                    return self._end(f"took more than {MOST_SECONDS:g} s")
                if time.monotonic() - started > MOST_WAITED:
                    return self._end("hangs")
            fault = self._pipe.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            return f"ended the process ({code}): {self._said(said)[-2000:].decode(errors='replace')}"
        if (seconds := self._seconds() - before) > MOST_SECONDS:
            return fault or f"took {seconds:.1f} s"
        output = self._said(said)
        if len(output) > MOST_SAID or b"Traceback" in output:
            return fault or f"wrote {len(output)} bytes: {output[:1000].decode(errors='replace')}"
        return fault

    def close(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._stderr.close()
        self._folder.cleanup()

    def _end(self, fault: str) -> str:
        self._process.kill()
        self._process.wait()
        return fault

    def _said(self, start: int) -> bytes:
        self._stderr.seek(start)
        return self._stderr.read()

    def _seconds(self) -> float:
        """Of processors, in all of its threads."""
        fields = self._of_proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK if fields else 0.0

    def _bytes(self) -> int:
        """Resident."""
        fields = self._of_proc("statm").split()
        return int(fields[1]) * _PAGE if fields else 0

    def _of_proc(self, file: str) -> str:
        try:
            return Path(f"/proc/{self._process.pid}/{file}").read_text(encoding="utf-8")
        except OSError:  # it has ended
            return ""
