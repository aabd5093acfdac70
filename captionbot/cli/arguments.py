"""What several commands are asked: which captioner, on which device, how to search, and where to write."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.bulk.folder import BATCH
from captionbot.errors import CaptionBotError, shortened
from captionbot.fields import About
from captionbot.host import uncollected
from captionbot.images.archives import is_archive, is_file
from captionbot.search.options import ABOUT, BEGINNINGS, SearchOptions

if TYPE_CHECKING:
    from captionbot.captioner import Captioner


def add_model_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """--model, --device and the options of the search, whose group is returned."""
    parser.add_argument(
        "--model", metavar="NAME", help="name or folder of a captioner (default: the one that ships)"
    )
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="(default: auto)"
    )
    group = parser.add_argument_group("search", "What is left out is as the captioner's card has it.")
    for name, said in ABOUT.items():
        if name != "num_return":  # of some commands alone
            add_search_argument(group, name, said)
    group.add_argument(
        "--prefix",
        metavar="TEXT",
        default=argparse.SUPPRESS,
        help=f"words that every caption starts with, such as {', '.join(map(repr, BEGINNINGS))}",
    )
    group.add_argument(
        "--ban",
        dest="banned_words",
        action="append",
        metavar="WORD",
        default=argparse.SUPPRESS,
        help="a word never to say; may be given again",
    )
    return group


def add_photos(parser: argparse.ArgumentParser, nargs: str) -> None:
    parser.add_argument(
        "paths", nargs=nargs, metavar="PATH", help="image, folder, .zip or .tar of images, or URL"
    )


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help=f"photos at once (default: {BATCH['cpu']}, on a GPU {BATCH['cuda']})",
    )


def add_search_argument(group: argparse._ArgumentGroup, name: str, said: About) -> None:
    """The flag of a search option; where it is not given the captioner's own choice holds."""
    usual, flag = getattr(SearchOptions, name), name.replace("_", "-")
    shared: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
    if isinstance(usual, bool):
        action, words = ("store_false", f"do not {said.help}") if usual else ("store_true", said.help)
        group.add_argument(f"--{'no-' if usual else ''}{flag}", action=action, help=words, **shared)
        return
    kind, metavar = (float, "X") if isinstance(usual, float) else (int, "N")
    needs = f"; with --{said.needs}" if said.needs else ""
    words = f"{said.help} ({said.allowed}{needs})".replace("%", "%%")
    group.add_argument(f"--{flag}", type=kind, metavar=metavar, help=words, **shared)


def positive(text: str) -> int:
    if not text.isdecimal() or len(text) > 6 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{shortened(text)}' is not a whole number from 1 to 999999")
    return int(text)


def search_options(args: argparse.Namespace) -> dict[str, Any]:
    known = {*ABOUT, "prefix", "banned_words"}
    return {name: value for name, value in vars(args).items() if name in known}


def load_captioner(args: argparse.Namespace) -> Captioner:
    with uncollected():
        from captionbot import Captioner

        return Captioner.from_pretrained(args.model, device=args.device)


def check_spares(out: Path, paths: list[str]) -> None:
    """CaptionBotError where writing the file would cost a photo, or an archive of them."""
    if not is_file(out):
        return
    asked = any(is_file(Path(path)) and out.samefile(path) for path in paths)
    if asked or is_archive(out):
        raise CaptionBotError(f"--out is {out}, which holds photos and would be overwritten; give another.")
