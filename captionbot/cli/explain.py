"""`captionbot explain`: where the model looked for every word of one photo's caption."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.bulk.records import (
    record,
)
from captionbot.cli.arguments import add_model_arguments, check_spares, load_captioner, search_options
from captionbot.cli.commands import Commands, add_command, warn
from captionbot.errors import CaptionBotError
from captionbot.files import utf8
from captionbot.text.judgement import in_brief

if TYPE_CHECKING:
    from PIL.Image import Image

    from captionbot.types import Caption


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "explain", run, "Draw where the model looked for every word of one photo's caption."
    )
    parser.add_argument("image", metavar="IMAGE", help="image file or URL")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FIGURE", help=f"{'|'.join(_FIGURES)} to write"
    )
    parser.add_argument(
        "--needs",
        action="store_true",
        help="show what each word needs of the photo, from hidden copies of it, not where the model looked",
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    draw = _FIGURES.get(args.out.suffix.lower())
    if draw is None:
        raise CaptionBotError(f"--out is {args.out}; give a file name that ends in {', '.join(_FIGURES)}.")
    from captionbot.explain.attribution import word_maps
    from captionbot.images.load import load_image

    check_spares(args.out, [args.image])
    image = load_image(args.image)
    captioner = load_captioner(args)
    captioned = captioner.caption([image], **search_options(args))[0]
    method = "needs" if args.needs else "auto"
    maps = [word_maps(captioner, image, caption, method) for caption in captioned.captions]
    looked = tuple(own.on(caption) for own, caption in zip(maps, captioned.captions, strict=True))
    numbers = record(args.image, captioner.name, replace(captioned, captions=looked), with_alphas=True)
    args.out.write_bytes(draw(image, looked[0], numbers | {"label": maps[0].label}))
    if maps[0].method != "attention" and not args.needs:
        warn(f"{captioner.name} looks at the photo as a whole; {args.out} shows {maps[0].label}.")
    best = captioned.captions[0]
    print(best.text, *([in_brief(best.judgement)] if best.judgement else []), sep="\t")
    return 0


def _sheet(image: Image, caption: Caption, numbers: dict[str, Any]) -> bytes:
    from captionbot.draw.files import png
    from captionbot.draw.sheets import contact_sheet

    return png(contact_sheet(image, caption))


def _gif(image: Image, caption: Caption, numbers: dict[str, Any]) -> bytes:
    from captionbot.draw.files import gif
    from captionbot.draw.sheets import animation

    return gif(animation(image, caption))


def _webp(image: Image, caption: Caption, numbers: dict[str, Any]) -> bytes:
    from captionbot.draw.files import webp
    from captionbot.draw.sheets import animation

    return webp(animation(image, caption))


def _json(image: Image, caption: Caption, numbers: dict[str, Any]) -> bytes:
    return utf8(json.dumps(numbers, ensure_ascii=False))


_FIGURES = {".png": _sheet, ".gif": _gif, ".webp": _webp, ".json": _json}
