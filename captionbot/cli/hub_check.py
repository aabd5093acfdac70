"""`captionbot hub-check`: whether a captioner of the Hub is what it should be."""

from __future__ import annotations

import argparse
from pathlib import Path

from captionbot.cli.commands import Commands, add_command


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "hub-check",
        run,
        "Compare a captioner of the Hugging Face Hub with the model of its configuration.",
    )
    parser.add_argument(
        "name", metavar="NAME", help="a name of weights/table.json, or OWNER/NAME of the Hugging Face Hub"
    )
    parser.add_argument("--revision", metavar="COMMIT", help="of OWNER/NAME: a branch, tag or commit")
    parser.add_argument(
        "--caption",
        metavar="PHOTO",
        type=Path,
        help="caption a photo with the captioner that is here, and by transformers' own generate",
    )


def run(args: argparse.Namespace) -> int:
    if args.caption:
        from captionbot.generate import compared

        same, line = compared(args.name, args.caption)
        print(line)
        return 0 if same else 1
    from captionbot.store.importers.hub_check import checked

    print(checked(args.name, args.revision))
    return 0
