"""`captionbot import`: a captioner from another project's weights."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from captionbot.cli.commands import Commands, add_command
from captionbot.cli.download import shown_progress
from captionbot.errors import CaptionBotError


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "import", run, "Make a captioner of another project's weights.")
    parser.add_argument(
        "kind",
        metavar="KIND",
        help="the project: sankalp1999, sgrvinod, cs231n, dragonyong, ruotianluo or hub",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="its files, in any order; of hub OWNER/NAME of the Hugging Face Hub, or a folder with its files",
    )
    parser.add_argument(
        "--revision", metavar="COMMIT", help="of hub: a branch, tag or commit (default: main)"
    )
    parser.add_argument(
        "--ask", metavar="TEXT", default="", help="of hub: what a captioner that can be asked is asked"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="NAME",
        help="what `--model` will call it; or, with a slash, a folder to put it in",
    )


def run(args: argparse.Namespace) -> int:
    from captionbot.files import cache_folder
    from captionbot.store.importers import import_captioner

    is_folder = os.sep in args.out or "/" in args.out
    folder = Path(args.out) if is_folder else cache_folder() / args.out
    name = folder.resolve().name
    if not name or args.out in ("", ".", ".."):
        raise CaptionBotError(
            f"--out is {args.out!r}; give a name for the captioner, or a folder to put it in."
        )
    if args.kind == "hub":
        card = _import_hub(args, folder, name)
    elif args.revision or args.ask:
        option = "--revision" if args.revision else "--ask"
        raise CaptionBotError(f"{option} is of hub alone, not of {args.kind}: leave it out.")
    else:
        card = import_captioner(args.kind, args.files, folder, name)
    print(card)
    return 0


def _import_hub(args: argparse.Namespace, folder: Path, name: str) -> Path:
    from captionbot.store.importers.hub import import_hub

    if len(args.files) != 1:
        raise CaptionBotError(f"hub takes one repository or folder, and {len(args.files)} were given.")
    return import_hub(args.files[0], folder, name, args.revision, shown_progress(), args.ask)
