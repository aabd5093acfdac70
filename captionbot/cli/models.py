"""`captionbot models`: the captioners that are here, and those that can be downloaded."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from captionbot.cli.commands import Commands, add_command, warn
from captionbot.errors import CaptionBotError


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "models", run, "List the captioners that ship and those that can be downloaded."
    )
    parser.add_argument("--format", choices=["text", "json"], default="text", help="(default: text)")


def run(args: argparse.Namespace) -> int:
    listed = [*_here()]
    names = {model["name"] for model in listed}
    listed += [model for model in _downloadable() if model["name"] not in names]
    if args.format == "json":
        print(json.dumps(listed, ensure_ascii=False, indent=2))
        return 0
    width = max((len(model["name"]) for model in listed), default=0)
    for model in listed:
        origin = "default" if model["default"] else "ships" if model["ships"] else "downloads"
        if not model["ships"] and model["parameters"]:
            origin = "imported"
        size = f"{model['size_bytes'] / 1e6:.1f} MB" if model["size_bytes"] else ""
        scores = ", ".join(f"{name} {x:.3f}" for name, x in model["scores"].items() if isinstance(x, float))
        print(f"{model['name']:{width}}  {origin:9}  {model['family']:16}  {size:>9}  {scores}".rstrip())
    return 0


def _here() -> Iterator[dict[str, Any]]:
    """The captioners that ship, then those that were imported; a damaged card hides its own alone."""
    from captionbot.store.card import Card
    from captionbot.store.registry import imported_cards, list_cards

    told = ("name", "family", "default", "parameters", "size_bytes", "scores")
    for ships, paths in ((True, list_cards()), (False, imported_cards())):
        for path in paths:
            try:
                card = Card.load(path)
            except CaptionBotError as error:
                warn(str(error))
            else:
                yield {"ships": ships, **{name: getattr(card, name) for name in told}}


def _downloadable() -> Iterator[dict[str, Any]]:
    from captionbot.store.weights import weight_files

    captioners = (file for file in weight_files() if file.family)
    for name, files in groupby(captioners, key=lambda file: file.name):
        parts = list(files)
        told = [file.size or 1_000_000 * (file.megabytes or 0) for file in parts]
        sizes = [size for size in told if size]
        yield {
            "name": name,
            "family": parts[0].family,
            "ships": False,
            "default": False,
            "parameters": None,
            "size_bytes": sum(sizes) if len(sizes) == len(parts) else None,
            "scores": {},
        }
