"""How long one waits before anything happens: `python -m benchmarks.startup`.

Fresh processes, the median of several rounds: the import, the help, the captioner, and the Streamlit page
from the start of its server to the first caption of a photo that is dropped in.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from statistics import median

from benchmarks.caption import seconds
from benchmarks.pages import PAGES, memory, photo, served

COMMANDS = {
    "python alone": ["-c", "pass"],
    "import captionbot": ["-c", "import captionbot"],
    "python -m captionbot --help": ["-m", "captionbot", "--help"],
    "captioner loaded": ["-c", "import captionbot; captionbot.Captioner.from_pretrained(device='cpu')"],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a number; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    for name, value in measure(parser.parse_args(argv).rounds).items():
        print(f"{name:60} {value:.2f}")
    return 0


def measure(rounds: int) -> dict[str, float]:
    """Seconds of each, Python's own start included, and the page's memory after its first caption."""
    numbers = {
        f"start, {name}: seconds": median(seconds(partial(_run, arguments)) for _ in range(rounds))
        for name, arguments in COMMANDS.items()
    }
    started = time.perf_counter()
    with served("streamlit") as (address, pid):
        PAGES["streamlit"](address).upload(photo(0), "0.jpg")
        numbers["start, page to the first caption: seconds"] = time.perf_counter() - started
        numbers["page after its first caption: GiB of memory"] = memory(pid) / 1024
    return numbers


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    sys.exit(main())
