"""`captionbot import`: a captioner from another project's weights."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from captionbot.cli.commands import Commands, add_command
from captionbot.errors import CaptionBotError


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "import", run, "Make a captioner of another project's weights.")
    parser.add_argument("kind", metavar="KIND", help="the project: sankalp1999, sgrvinod or cs231n")
    parser.add_argument("files", nargs="+", metavar="FILE", help="its files, in any order")
    parser.add_argument(
        "--out",
        required=True,
        metavar="NAME",
        help="what `--model` will call it; or, with a slash, a folder to put it in",
    )


def run(args: argparse.Namespace) -> int:
    from captionbot.store.folders import cache_folder
    from captionbot.store.importers import import_captioner

    is_folder = os.sep in args.out or "/" in args.out
    folder = Path(args.out) if is_folder else cache_folder() / args.out
    name = folder.resolve().name
    if not name or args.out in ("", ".", ".."):
        raise CaptionBotError(
            f"--out is {args.out!r}; give a name for the captioner, or a folder to put it in."
        )
    card = import_captioner(args.kind, args.files, folder, name)
    print(card)
    return 0
