"""`captionbot download`: other people's weights, and captioners made of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from captionbot.cli.commands import Commands, add_command


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

    paths = download(args.name, args.folder, _show_progress if sys.stderr.isatty() else None)
    for file, path in zip(weight_files(args.name), paths, strict=True):
        print(verification(file, path), file=sys.stderr)
        print(path)
    if kind := weight_files(args.name)[0].importer:
        from captionbot.store.importers import import_captioner

        print(import_captioner(kind, paths, paths[0].parent, args.name))
    return 0


def _show_progress(done: int, total: int | None) -> None:
    amount = f"{done / 1e6:,.1f}" + (f" of {total / 1e6:,.1f}" if total else "") + " MB"
    print(f"\r{amount}", end="\n" if done == total else "", file=sys.stderr, flush=True)
