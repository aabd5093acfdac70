"""All of the speed on one page, ratios first: `python -m benchmarks` (`--quick` to see that it runs).

What is compared runs in turns in one process. The search, GPT-2, CNNs and the floor are of one thread and of
the processor's time, so that they hold on a busy machine; photos, folders and starts are by the clock, on all
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
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import caption, encoders, folder, gpt2, photo, pixels, startup
from benchmarks.startup import CAPTION
from benchmarks.timing import Part, Row
from captionbot import CaptionBotError

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results.json", ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
START, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
PARTS = ("search", "gpt2", "encoders", "photo", "folder", "pixels", "start")


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
        help="write benchmarks/results.json, the tables in docs/benchmarks.md and three lines of the README",
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
    parts: dict[str, Callable[[], list[Part]]] = {
        "search": partial(caption.measure, rounds, quick),
        "gpt2": partial(gpt2.measure, rounds, quick),
        "encoders": partial(encoders.measure, rounds, quick),
        "photo": partial(photo.measure, args.model, rounds, quick),
        "folder": partial(folder.measure, args.model, rounds, quick),
        "pixels": partial(pixels.measure, args.model, rounds, quick),
        "start": partial(startup.measure, rounds, quick),
    }
    measured: list[Part] = []
    try:
        for part in args.parts:
            print(f"{part} …", file=sys.stderr, flush=True)
            with redirect_stdout(sys.stderr):
                measured += parts[part]()
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        return 2
    found = {"machine": machine(), "rounds": rounds, "parts": [asdict(part) for part in measured]}
    print(table(found))
    if into:
        into.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if page:
        from training.evaluation.leaderboard import write_table

        write_table(page, table(found), START, END)
        if args.publish:
            write_table(README, in_short(found), START, END)
    return 0


def table(found: dict[str, Any]) -> str:
    """Markdown of what the JSON holds: five ratios where all of them are there, then the tables."""
    on = found["machine"]
    head = (
        f"Measured on {on['date']} on {on['cores']} cores of an {on['processor']} ({on['vectors']}), torch "
        f"{on['torch']} with {on['threads']} threads, by `python -m benchmarks`; medians of "
        f"{found['rounds']} rounds in turns."
    )
    parts = _parts(found)
    lines = [f"- {sentence}" for sentence in _ratios(parts)]
    return "\n\n".join([*(["\n".join(lines)] if lines else []), head, *(p.markdown() for p in parts)])


def in_short(found: dict[str, Any]) -> str:
    """Three lines of it for the README."""
    return "\n".join(f"- {sentence}" for sentence in _ratios(_parts(found))[:3])


def _parts(found: dict[str, Any]) -> list[Part]:
    return [Part(**{**part, "rows": [Row(**row) for row in part["rows"]]}) for part in found["parts"]]


def _ratios(parts: Sequence[Part]) -> list[str]:
    """What one should know, as far as it was measured: a sentence each."""
    of = {part.title.partition(",")[0]: part for part in parts}
    folder, start, gpt = of.get("A folder"), of.get("Start"), of.get("GPT-2 of 12 layers")
    whole, search = of.get("From a JPEG to its caption"), of.get("The search")
    found: list[str] = []
    if whole is not None:
        ratio = whole.value("against sgrvinod's")
        found.append(f"A JPEG becomes a caption **{ratio:.3g} times as fast** as with sgrvinod's tutorial "
                     "and the same weights, in fp32 by one thread.")  # fmt: skip
    if search is not None:
        ratio = search.rows[0].values[-1]
        found.append(f"The search alone finds the captions of 32 photos **{ratio:.3g} times as fast** as "
                     "sgrvinod's.")  # fmt: skip
    if gpt is not None:
        ratio = gpt.value("fp32 against `generate`")
        found.append(f"GPT-2 of 12 layers captions a photo **{ratio:.3g} times as fast** as with `generate` "
                     "of transformers, in the same words.")  # fmt: skip
    if folder is not None:
        ratio = folder.value("pipeline") / folder.value("one by one")
        found.append(f"The command line captions a folder **{ratio:.3g} times as fast** as photo by photo.")
    if start is not None:
        ratio = start.value(CAPTION, -1)
        found.append(f"{CAPTION} takes **{ratio:.3g} times as long** as `import torch` alone, from nothing "
                     "to a caption.")  # fmt: skip
    return found


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "date": date.today().isoformat(),
        "processor": names[0] if names else platform.processor(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
