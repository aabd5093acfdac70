"""`captionbot download`: other people's weights, and captioners made of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from captionbot.cli.commands import Commands, add_command

if TYPE_CHECKING:
    from captionbot.store.downloads import Progress


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "download", run, "Fetch weights, import those of captioners, and print where they lie."
    )
    parser.add_argument(
        "name", metavar="NAME", help="a name of weights/table.json; for any other they are listed"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to (default: the cache folder)")


def run(args: argparse.Namespace) -> int:
    from captionbot.store.weights import download, verification, weight_files

    if weight_files(args.name)[0].importer == "hub":
        from captionbot.store.importers.hub import download_hub

        print(download_hub(args.name, args.folder, shown_progress()))
        return 0
    paths = download(args.name, args.folder, shown_progress())
    for file, path in zip(weight_files(args.name), paths, strict=True):
        print(verification(file, path), file=sys.stderr)
        print(path)
    if kind := weight_files(args.name)[0].importer:
        from captionbot.store.importers import import_captioner

        print(import_captioner(kind, paths, paths[0].parent, args.name))
    return 0


def shown_progress() -> Progress | None:
    """How far a download is, on a terminal; None elsewhere."""
    return _show_progress if sys.stderr.isatty() else None


def _show_progress(done: int, total: int | None) -> None:
    amount = f"{done / 1e6:,.1f}" + (f" of {total / 1e6:,.1f}" if total else "") + " MB"
    print(f"\r{amount}", end="\n" if done == total else "", file=sys.stderr, flush=True)
