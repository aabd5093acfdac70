"""Many clients at once for minutes: `python -m benchmarks.load`.

Each page's real server, in a process of its own, and clients that speak its own protocol, each with photos
of its own: they upload, click a word, and go on. Printed are the memory of the server over time, errors, and
how long a caption and a click took. It exits with 1 where a client got an error, or where the memory of the
last third is more than that of the second third by a tenth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import mean, quantiles
from threading import Lock
from typing import Any

from benchmarks.pages import PAGES, memory, photo
from benchmarks.servers import served
from captionbot import CaptionBotError

EVERY = 10  # seconds between two looks at the memory
GROWTH = 1.1


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was measured of each page; 0, or 1 as above."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--pages", nargs="+", choices=PAGES, default=list(PAGES), help="(default: both)")
    parser.add_argument("--clients", type=int, default=20, help="at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=180, help="of each page (default: %(default)s)")
    args = parser.parse_args(argv)
    photos = [photo(number) for number in range(args.clients)]
    return max(measure(page, photos, args.seconds) for page in args.pages)


def measure(page: str, photos: Sequence[bytes], seconds: float) -> int:
    """1 where there were errors or the memory grew, else 0."""
    seen = Seen()
    with served(page) as (address, pid):
        PAGES[page](address).upload(photos[0], "first.jpg")  # the captioner is loaded
        print(f"{page:10} memory after the first caption: {memory(pid)} MiB", flush=True)
        ends = time.monotonic() + seconds
        with ThreadPoolExecutor(len(photos)) as pool:
            for number, data in enumerate(photos):
                pool.submit(client, PAGES[page], address, number, data, ends, seen)
            over_time = []
            while time.monotonic() < ends:
                time.sleep(min(EVERY, max(0.1, ends - time.monotonic())))
                over_time.append(memory(pid))
    print(f"{page:10} memory every {EVERY} s, MiB: {' '.join(map(str, over_time))}")
    for what, taken in seen.seconds.items():
        print(f"{page:10} {what}: {len(taken)}, seconds {spread(taken)}")
    print(f"{page:10} errors: {len(seen.errors)} {sorted(set(seen.errors))[:3]}", flush=True)
    third = len(over_time) // 3
    grew = third > 0 and mean(over_time[-third:]) > GROWTH * mean(over_time[third : 2 * third])
    return int(bool(seen.errors) or grew)


class Seen:
    """What all clients saw."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.seconds: dict[str, list[float]] = {"captions": [], "clicks": []}
        self.errors: list[str] = []

    def timed(self, what: str, act: Callable[[], Any]) -> None:
        started = time.monotonic()
        act()
        with self.lock:
            self.seconds[what].append(time.monotonic() - started)


def client(visit: Any, address: str, number: int, data: bytes, ends: float, seen: Seen) -> None:
    """One client, until the time is over. Every photo is a new one to the page, by its last bytes."""
    turn = 0
    while time.monotonic() < ends:
        try:
            visitor = visit(address)
            while time.monotonic() < ends:
                turn += 1
                new = data + turn.to_bytes(4, "big")
                name = f"client {number} photo {turn}.jpg"
                seen.timed("captions", partial(visitor.upload, new, name))
                seen.timed("clicks", partial(visitor.click, 1))
        except Exception as error:  # whatever it is, it is what a visitor saw
            with seen.lock:
                seen.errors.append(f"{type(error).__name__}: {error}"[:200])
            time.sleep(1)


def spread(taken: Sequence[float]) -> str:
    if len(taken) < 2:
        return " ".join(f"{one:.2f}" for one in taken)
    cuts = quantiles(taken, n=20)
    return f"median {cuts[9]:.2f}, 95 % {cuts[18]:.2f}, slowest {max(taken):.2f}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
