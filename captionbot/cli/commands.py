"""What every command line here does alike: what went wrong is one line on stderr, without a traceback."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn, ParamSpec, TextIO, TypeAlias

from captionbot.backends.user import name_cache_folder
from captionbot.errors import CaptionBotError
from captionbot.progress import CLEAR

P = ParamSpec("P")
PREFIX = "captionbot: "  # of what `captionbot` complains about
INTERRUPTED = 130  # what a shell gives a command that Ctrl-C ended


def program() -> str:
    """How this program was called: by the command that an installation brings, or as a module."""
    return "captionbot" if Path(sys.argv[0]).stem == "captionbot" else "python -m captionbot"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` shows what is allowed\n")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """The parser of one command; `text` is its line in `--help`."""
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def complain(message: str, prefix: str = "") -> None:
    clear = CLEAR if sys.stderr.isatty() else ""  # where a line of progress may stand
    print(f"{clear}{prefix}{on_one_line(' '.join(message.split()))}", file=sys.stderr)


def warn(message: str) -> None:
    """A complaint of `captionbot`, which goes on."""
    complain(message, PREFIX)


def on_one_line(text: str) -> str:
    """A text, such as a file's name, with escapes for tabs, line breaks and what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _prepare_streams() -> None:
    """Somewhere to write where the caller closed stdout or stderr."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 (open as long as the process)
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    robust(sys.stdout)


def exit_code(work: Callable[[], int], prefix: str = "") -> int:
    """What `work` returns, 2 after one clear line on stderr, or 130 after Ctrl-C.

    prefix: of that line.
    """
    _prepare_streams()
    name_cache_folder()
    try:
        return work()
    except CaptionBotError as error:
        complain(str(error), prefix)
        return 2
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "captionbot", "training"):
            raise
        complain(
            f"This Python has no package {name}: activate the environment that has it (after `make app`: "
            "`. .venv/bin/activate`), or `pip install -r requirements.txt`.",
            prefix,
        )
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        complain(f"{error.filename or 'The output'} cannot be read or written ({error.strerror}).", prefix)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def command(main: Callable[P, int]) -> Callable[P, int]:
    """A `main` that ends with `exit_code`."""

    @functools.wraps(main)
    def run(*arguments: P.args, **named: P.kwargs) -> int:
        return exit_code(lambda: main(*arguments, **named))

    return run


def robust(file: TextIO) -> None:
    """Show every line as soon as it is written, and write file names that are not UTF-8 with escapes."""
    if isinstance(file, TextIOWrapper):  # a notebook's or a test's stdout takes any text
        file.reconfigure(errors="backslashreplace", line_buffering=True)
