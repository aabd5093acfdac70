"""`captionbot app`: one of the two pages, as hosts start it."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from pathlib import Path

from captionbot.cli.commands import Commands, add_command
from captionbot.errors import CaptionBotError
from captionbot.extras import require
from captionbot.host import HUB

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "_page", _PACKAGE.parent)  # of streamlit_app.py in a wheel, and in a checkout
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "app", run, "Start the Streamlit page, or the Gradio page.")
    parser.add_argument("--gradio", action="store_true", help="the Gradio page")
    parser.add_argument("--port", type=int, metavar="N", help="(default: 8501, of the Gradio page 7860)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at; 0.0.0.0 lets other machines in (default: 127.0.0.1)",
    )


def run(args: argparse.Namespace) -> int:
    if args.host in _THIS_MACHINE:  # whoever opens the page may fill its disk
        os.environ.setdefault(HUB, "1")
    if args.gradio:
        require("gradio", "gradio", "The Gradio page")
        os.environ["GRADIO_SERVER_NAME"] = args.host
        os.environ["GRADIO_SERVER_PORT"] = str(args.port or 7860)
        runpy.run_path(str(_script("gradio_app.py")), run_name="__main__")
        return 0
    require("streamlit", "streamlit", "The Streamlit page")
    sys.argv = [
        *("streamlit", "run", str(_script("streamlit_app.py"))),
        *(f"--server.address={args.host}", f"--server.port={args.port or 8501}"),
        *("--server.showEmailPrompt=false", "--server.fileWatcherType=none"),
    ]
    from captionbot.pages.resident import load_ahead

    load_ahead()
    runpy.run_module("streamlit", run_name="__main__")
    return 0


def _script(name: str) -> Path:
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise CaptionBotError(f"{name} is missing from this installation: install captionbot again.")
