"""The command line: `captionbot caption|alt|explain|models|download|import|hub-check|app`, a module
each.

Torch is imported only after the arguments are known to be sound, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
import warnings

import captionbot
from captionbot import host
from captionbot.cli import alt, app, caption, download, explain, hub_check, import_, models
from captionbot.cli.commands import PREFIX, Parser, exit_code, program


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code: 0, 2 after one clear line on stderr, or 130 after Ctrl-C."""
    host.prepare()
    if not sys.warnoptions:  # of Pillow and torch, about photos and files that get a sentence, or captions
        warnings.simplefilter("ignore")
    return exit_code(lambda: _run(argv), PREFIX)


def _run(argv: list[str] | None) -> int:
    args = _parser().parse_args(argv)
    code: int = args.run(args)
    return code


def _parser() -> Parser:
    parser = Parser(prog=program(), description="Caption photos, and see why, word by word.")
    parser.add_argument("--version", action="version", version=f"captionbot {captionbot.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for command in (caption, alt, explain, models, download, import_, hub_check, app):
        command.add_parser(commands)
    return parser
