"""Look after data sets.

    python -m training.data check PATH [--format NAME] [--images DIR|TAR] [--json]
    python -m training.data download NAME [--folder DIR] [--captions-only] [--yes]

`check` ends with 0 for a clean data set, 1 where it found problems; all errors end with 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from captionbot.cli.commands import Parser, command
from captionbot.errors import CaptionBotError
from training.data import open_images
from training.data.check import Report, check
from training.data.download import DATASETS, announced_size, describe, download_dataset, find_dataset
from training.data.formats import FORMATS, load_dataset

_SHOWN = 10  # problems of a kind that the text shows; --json has all
_BAR = 40  # characters of the longest bar


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m training.data", description="Look after data sets.")
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("check", help="find what is wrong with a data set")
    sub.add_argument("path", type=Path, help="its folder, or its file of captions")
    sub.add_argument("--format", default="auto", help=f"auto, or one of {', '.join(FORMATS)}")
    sub.add_argument("--images", type=Path, help="folder or .tar of the photos (default: with the captions)")
    sub.add_argument("--captions-only", action="store_true", help="do not look at the photos")
    sub.add_argument("--threads", type=int, default=4)
    sub.add_argument("--json", action="store_true", help="the whole report as JSON")
    sub.set_defaults(run=_check)
    sub = commands.add_parser("download", help="fetch a data set from its authors")
    sub.add_argument("name", help=f"one of {', '.join(DATASETS)}")
    sub.add_argument("--folder", type=Path, help="where to put it (default: data/NAME)")
    sub.add_argument("--captions-only", action="store_true", help="leave out the photos")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    sub.set_defaults(run=_download)
    given = parser.parse_args(arguments)
    return given.run(given)


def _check(given: argparse.Namespace) -> int:
    examples = load_dataset(given.path, given.format)
    beside = given.path if given.path.is_dir() or given.path.suffix == ".tar" else given.path.parent
    store = None if given.captions_only else open_images(given.images or beside)
    report = check(examples, store, max(1, given.threads))
    print(
        json.dumps(dataclasses.asdict(report), indent=1, ensure_ascii=False) if given.json else _text(report)
    )
    return 1 if report.problems else 0


def _text(report: Report) -> str:
    lines = [
        f"{split}: {counts['images']:,} images, {counts['captions']:,} captions, {counts['words']:,} words"
        for split, counts in report.splits.items()
    ]
    for n, words in report.vocabulary.items():
        lines.append(f"words seen at least {n} times in train: {words:,}")
    lines += ["captions by their number of words:", *_histogram(report.lengths)]
    for kind, problems in report.problems.items():
        lines += [f"{kind}: {len(problems):,}", *(f"  {problem}" for problem in problems[:_SHOWN])]
        if len(problems) > _SHOWN:
            lines.append(f"  and {len(problems) - _SHOWN:,} more, which --json shows")
    return "\n".join([*lines, "" if report.problems else "no problems found"]).rstrip()


def _histogram(counts: Mapping[int, int]) -> list[str]:
    most = max(counts.values(), default=0)
    return [f"{length:>4} {n:>8,} {'#' * round(_BAR * n / most)}".rstrip() for length, n in counts.items()]


def _download(given: argparse.Namespace) -> int:
    dataset = find_dataset(given.name)
    folder = given.folder or Path("data") / given.name
    remotes = [remote for remote in dataset.files if not (remote.photos and given.captions_only)]
    sizes = {remote: announced_size(remote, folder) for remote in remotes}
    print(describe(dataset, sizes, folder))
    if not given.yes and not _agreed():
        raise CaptionBotError("Nothing was downloaded: answer y, or give --yes.")
    with tqdm(desc="downloaded", unit="B", unit_scale=True) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        paths = download_dataset(sizes, folder, show)
    print(f"{len(paths):,} files are in {folder}.")
    return 0


def _agreed() -> bool:
    try:
        return input("Download? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there to answer
        return False


if __name__ == "__main__":
    sys.exit(main())
