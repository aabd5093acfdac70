"""What captioners say of the photos of a split, and how good each caption is: the page Results shows it.

    python -m training.gallery --out cache/val.json
    CAPTIONBOT_VAL=cache/val.json make app

The file holds captions, their CIDEr-D and what people wrote, but no photo: those are read from where they
lie now. Data sets have their own licences, so keep it to yourself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captionbot.captioner import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.files import utf8
from training.data import open_images, photos_beside
from training.data.formats import FORMATS
from training.evaluation.evaluate import caption_all
from training.evaluation.leaderboard import BATCH, add_common_flags, chosen_cards
from training.evaluation.predictions import load_split
from training.metrics import measure
from training.run.checkpoints import check_outputs
from training.run.config import check_least


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        "python -m training.gallery",
        description="What captioners say of the photos of a split, and how good each caption is.",
    )
    add_common_flags(parser, "--annotations")
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto", help="of the annotations")
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    given = parser.parse_args(arguments)
    check_outputs([given.out], [given.annotations])
    found = gallery(given)
    given.out.write_bytes(utf8(json.dumps(found, ensure_ascii=False) + "\n"))
    print(f"{given.out}: {len(found['shots'])} photos, {len(found['captioners'])} captioners")
    return 0


def gallery(given: argparse.Namespace) -> dict[str, Any]:
    """Caption and score; the captioner with the best CIDEr comes first."""
    check_least(given, {"limit": 0})
    examples, _ = load_split(given.annotations, given.format, given.split)
    examples = examples[: given.limit or None]
    images = given.images or photos_beside(given.annotations)
    store = open_images(images)
    names = [example.name for example in examples]
    references = {example.name: example.captions for example in examples}
    captions: dict[str, dict[str, str]] = {}
    scores: dict[str, Any] = {}
    for path in chosen_cards(given.models):
        captioner = Captioner.from_pretrained(path, given.device)
        options = captioner.options(beam_size=given.beam_size)
        captions[captioner.name] = caption_all(captioner, store, examples, options, BATCH)
        scores[captioner.name] = measure(captions[captioner.name], references, False, False).each()["CIDEr"]
    ranked = sorted(captions, key=lambda name: -float(scores[name].mean()))
    return {
        "images": str(images.resolve()),
        "split": given.split,
        "beam_size": given.beam_size,
        "captioners": ranked,
        "shots": [
            {
                "photo": photo,
                "references": references[photo],
                "captions": {
                    name: {"text": captions[name][photo], "CIDEr": round(float(scores[name][i]), 4)}
                    for name in ranked
                },
            }
            for i, photo in enumerate(names)
        ],
    }
