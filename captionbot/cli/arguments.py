"""What several commands are asked: which captioner, on which device, how to search, and where to write."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.images.archives import is_archive, is_file

if TYPE_CHECKING:
    from captionbot.captioner import Captioner


_SEARCH_OPTIONS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "beam_size": (
        int,
        "N",
        "hypotheses kept at every word; 1 is greedy (default: the model's own, mostly 5)",
    ),
    "max_length": (int, "N", "words at most"),
    "min_length": (int, "N", "words at least"),
    "length_penalty": (float, "X", "0 ranks by probability alone; the more, the longer the captions"),
    "no_repeat_ngram_size": (int, "N", "say no N words in a row twice"),
    "num_groups": (int, "N", "groups that the beams are split into, for captions that differ"),
    "diversity_penalty": (float, "X", "what a group pays for a word that another group just took"),
    "temperature": (float, "X", "of --sample: below 1 is safer, above 1 bolder"),
    "top_k": (int, "N", "of --sample: draw from the N likeliest words"),
    "top_p": (float, "X", "of --sample: draw from the likeliest words that hold this much probability"),
    "seed": (int, "N", "of --sample: the same seed gives the same captions"),
    "prefix": (str, "TEXT", "words that every caption starts with"),
}


def add_model_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """--model, --device and the options of the search, whose group is returned."""
    parser.add_argument(
        "--model", metavar="NAME", help="name or folder of a captioner (default: the one that ships)"
    )
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="(default: auto)"
    )
    group = parser.add_argument_group("search")
    for name, (kind, metavar, text) in _SEARCH_OPTIONS.items():
        # What is not given stays away, so that the model's own choice holds.
        group.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text, default=argparse.SUPPRESS
        )
    group.add_argument(
        "--sample", action="store_true", default=argparse.SUPPRESS, help="draw words instead of searching"
    )
    group.add_argument(
        "--no-evidence",
        dest="evidence",
        action="store_false",
        default=argparse.SUPPRESS,
        help="rank captions by their probability alone",
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


def positive(text: str) -> int:
    if not text.isdecimal() or len(text) > 6 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{shortened(text)}' is not a whole number from 1 to 999999")
    return int(text)


def search_options(args: argparse.Namespace) -> dict[str, Any]:
    known = {*_SEARCH_OPTIONS, "num_return", "sample", "evidence", "banned_words"}
    return {name: value for name, value in vars(args).items() if name in known}


def load_captioner(args: argparse.Namespace) -> Captioner:
    from captionbot import Captioner

    return Captioner.from_pretrained(args.model, device=args.device)


def check_spares(out: Path, paths: list[str]) -> None:
    """CaptionBotError where writing the file would cost a photo, or an archive of them."""
    if not is_file(out):
        return
    asked = any(is_file(Path(path)) and out.samefile(path) for path in paths)
    if asked or is_archive(out):
        raise CaptionBotError(f"--out is {out}, which holds photos and would be overwritten; give another.")
