"""How long one waits before anything happens.

Fresh processes, the median of several rounds: the import, the help, the captioner, one caption. Then the
Streamlit page from the start of its server to the caption of the sample that whoever opens it sees first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.pages import StreamlitVisitor, memory, photo
from benchmarks.servers import served
from benchmarks.timing import Part, Row, in_turns, times_as_fast

TORCH, CAPTION = "import torch", "`captionbot caption photo.jpg`"
PAGE = "the page, from the start of its server to the first caption"
COMMANDS = {
    "python alone": ["-c", "pass"],
    "import captionbot": ["-c", "import captionbot"],
    "the command line's help": ["-m", "captionbot", "--help"],
    TORCH: ["-c", "import torch"],
    "a captioner": ["-c", "import captionbot; captionbot.Captioner.from_pretrained(device='cpu')"],
}


def measure(rounds: int, quick: bool) -> list[Part]:
    """Seconds of each, Python's own start included, and the page's memory after its first caption."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photo.jpg")
        path.write_bytes(photo(0))
        commands = {**COMMANDS, CAPTION: ["-m", "captionbot", "caption", str(path), "--device", "cpu"]}
        runs = {name: partial(_run, arguments) for name, arguments in commands.items()}
        for run in runs.values():  # what files hold is in memory from here on, and what was measured is kept
            run()
        times = in_turns(runs, rounds)

    page, used = zip(*(_first_caption() for _ in range(1 if quick else rounds)), strict=True)
    taken = {name: median(runs) for name, runs in times.items()} | {PAGE: median(page)}
    against = {name: seconds / taken[TORCH] for name, seconds in taken.items()}
    against[CAPTION] = times_as_fast(times, TORCH, CAPTION)
    rows = [Row(name, [seconds, against[name]], "s, times") for name, seconds in taken.items()]
    how = f"Fresh processes, by the clock. The page has {median(used):,.0f} MiB after its first caption."
    return [Part("Start", how, ["takes", f"times `{TORCH}`"], rows)]


def _first_caption() -> tuple[float, int]:
    """Seconds of the page, and MiB of its memory then."""
    started = time.perf_counter()
    with served("streamlit") as (address, pid):
        return StreamlitVisitor(address).said - started, memory(pid)


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
