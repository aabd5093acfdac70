"""All of the speed in one table, ratios first: `python -m benchmarks` (`--quick` to see that it runs).

What is compared runs in turns in one process. The search, GPT-2 and the floor are of one thread and of the
processor's time, so that they hold on a busy machine; photos, folders and starts are by the clock, on all
threads, and hold on an idle one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import caption, folder, gpt2, photo, pixels, startup
from benchmarks.timing import Row
from captionbot import CaptionBotError

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results.json", ROOT / "docs" / "benchmarks.md"
START, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
PARTS = ("search", "gpt2", "photo", "folder", "pixels", "start")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and write it where asked; 0, or 2 with one sentence for what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--model", metavar="NAME_OR_DIR", help="the captioner (default: the one that ships)")
    parser.add_argument("--rounds", type=int, help="(default: 3, quick 1)")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    parser.add_argument("--page", type=Path, metavar="FILE", help=f"put the table after its {START}")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write benchmarks/results.json and the table in docs/benchmarks.md",
    )
    args = parser.parse_args(argv)
    if args.publish and (args.quick or len(args.parts) < len(PARTS)):
        parser.error("--publish is of a whole run, without --quick and --parts")
    if args.rounds is not None and args.rounds < 1:
        parser.error(f"--rounds is {args.rounds}; give 1 or more")
    for file in filter(None, (args.json, args.page)):
        if not file.absolute().parent.is_dir():
            parser.error(f"there is no folder {file.parent} for {file.name}; make it first")
    into = args.json or (RESULTS if args.publish else None)
    page = args.page or (PAGE if args.publish else None)
    rounds, quick = args.rounds or (1 if args.quick else 3), args.quick
    parts: dict[str, Callable[[], list[Row]]] = {
        "search": partial(caption.measure, rounds, quick),
        "gpt2": partial(gpt2.measure, rounds, quick),
        "photo": partial(photo.measure, args.model, rounds, quick),
        "folder": partial(folder.measure, args.model, rounds, quick),
        "pixels": partial(pixels.measure, args.model, rounds, quick),
        "start": partial(startup.measure, rounds),
    }
    rows: list[Row] = []
    try:
        for part in args.parts:
            print(f"{part} …", file=sys.stderr, flush=True)
            with redirect_stdout(sys.stderr):
                rows += parts[part]()
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        return 2
    rows.sort(key=lambda row: not row.unit.startswith("times"))
    found = {"machine": machine(), "rounds": rounds, "rows": [asdict(row) for row in rows]}
    print(table(found))
    if into:
        into.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if page:
        from training.evaluation.leaderboard import write_table

        write_table(page, table(found), START, END)
    return 0


def table(found: dict[str, Any]) -> str:
    """Markdown of what the JSON holds: what was measured on, and a line a row."""
    on = found["machine"]
    head = (
        f"{on['processor']}, {on['cores']} cores, torch {on['torch']} with {on['threads']} threads; medians "
        f"of {found['rounds']} rounds in turns, by `python -m benchmarks`. Search and GPT-2: one thread, its "
        "processor's time; the rest: by the clock."
    )
    rows = (Row(**row) for row in found["rows"])
    return "\n".join([head, "", "| | |", "|---|---|", *(f"| {row.name} | {row.text()} |" for row in rows)])


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
