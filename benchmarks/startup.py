"""How long one waits before anything happens.

Fresh processes, the median of several rounds: the import, the help, the captioner. Then the Streamlit page
from the start of its server to the first caption of a photo that is dropped in.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from statistics import median

from benchmarks.pages import PAGES, memory, photo
from benchmarks.servers import served
from benchmarks.timing import Row, in_turns, seconds

COMMANDS = {
    "python alone": ["-c", "pass"],
    "import captionbot": ["-c", "import captionbot"],
    "the command line's help": ["-m", "captionbot", "--help"],
    "a captioner": ["-c", "import captionbot; captionbot.Captioner.from_pretrained(device='cpu')"],
}


def measure(rounds: int) -> list[Row]:
    """Seconds of each, Python's own start included, and the page's memory after its first caption."""
    times = in_turns({name: partial(_run, arguments) for name, arguments in COMMANDS.items()}, rounds)
    used: list[float] = []

    def first_caption() -> None:
        with served("streamlit") as (address, pid):
            PAGES["streamlit"](address).upload(photo(0), "0.jpg")
            used.append(memory(pid) / 1024)

    page = seconds(first_caption)
    return [
        Row(f"start: {', '.join(COMMANDS)}", [median(taken) for taken in times.values()], "s"),
        Row("start: the page, to its first caption", [page], "s"),
        Row("memory of the page after its first caption", used, "GiB"),
    ]


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
