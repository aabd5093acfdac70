"""The command: all targets, or one, or one input of one again."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from fuzz import TARGETS
from fuzz.runner import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description="Read hostile files in child processes."
    )
    parser.add_argument(
        "--inputs", type=int, default=20_000, help="of all targets together (default: 20,000)"
    )
    parser.add_argument(
        "--target", choices=TARGETS, action="append", help="one target; give it several times"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the inputs (default: 1)")
    parser.add_argument("--only", type=int, metavar="INDEX", help="read one input of one target again")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at once (default: all cores)")
    arguments = parser.parse_args()
    targets = arguments.target or TARGETS
    count = -(-arguments.inputs // len(targets))

    def attacked(target: str) -> int:
        failures, started = 0, time.monotonic()
        first, inputs = (0, count) if arguments.only is None else (arguments.only, 1)
        for failure in fuzz(target, arguments.seed, inputs, first):
            failures += 1
            print(failure, flush=True)
        print(
            f"{target}: {inputs} inputs, {failures} failures, {time.monotonic() - started:.0f} s", flush=True
        )
        return failures

    with ThreadPoolExecutor(arguments.processes) as pool:
        return int(sum(pool.map(attacked, targets)) > 0)


if __name__ == "__main__":
    sys.exit(main())
