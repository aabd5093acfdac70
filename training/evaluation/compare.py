"""Is one captioner really better than another, or was it luck? A paired test of two files of results.

    python -m training.compare A.json B.json --annotations FILE

A and B are files of captions, of any form that training.evaluate reads, or its results.json with
predictions.json beside it. Both are scored on the same images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from captionbot.cli.commands import Parser, command
from captionbot.errors import CaptionBotError
from captionbot.files import utf8
from training.evaluation.evaluate import PREDICTIONS, add_annotation_flags
from training.evaluation.predictions import captions_of, load_split, read_predictions
from training.metrics import Measured, measure
from training.metrics.significance import differences
from training.run.checkpoints import check_outputs
from training.run.config import check_least


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        "python -m training.compare",
        description="Is one captioner really better than another, or was it luck? A paired test.",
    )
    parser.add_argument("first", type=Path, help="captions, or results.json beside its predictions.json")
    parser.add_argument("second", type=Path, help="the same of the other captioner")
    add_annotation_flags(parser)
    parser.add_argument("--samples", type=int, default=10_000, help="of both tests (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of both tests (default: %(default)s)")
    parser.add_argument("--by", default="CIDEr", help="score by which images differ most (default: CIDEr)")
    parser.add_argument("--show", type=int, default=5, help="so many images either way (default: 5)")
    parser.add_argument("--out", type=Path, help="write all of it there as JSON, with every image")
    given = parser.parse_args(arguments)
    comparison = compare(given)
    if given.out:
        given.out.write_bytes(utf8(json.dumps(comparison, indent=1, ensure_ascii=False) + "\n"))
    print(describe(comparison, given.show))
    return 0


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Scores of both, their differences, and every image by how much its captions' scores differ."""
    check_least(given, {"samples": 1, "seed": 0, "show": 0})
    files = [find_captions(path) for path in (given.first, given.second)]
    if given.out:
        check_outputs([given.out], [given.first, given.second, *files, given.annotations])
    examples, _ = load_split(given.annotations, given.format, given.split)
    first, second = (captions_of(examples, read_predictions(file), given.subset) for file in files)
    common = [example for example in examples if example.name in first.keys() & second.keys()]
    if not common:
        raise CaptionBotError(f"{given.first} and {given.second} have captions of no image in common.")
    references = {example.name: example.captions for example in common}
    both = [{name: captions[name] for name in references} for captions in (first, second)]
    meteor, spice = not given.no_meteor, not given.no_spice
    a = measure(both[0], references, meteor, spice)
    # what could not run for the first is not tried, and warned of, again
    b = measure(
        both[1], references, meteor and "METEOR" not in a.left_out, spice and "SPICE" not in a.left_out
    )
    found = differences(a.tallies, b.tallies, given.samples, given.seed)
    return {
        "first": str(given.first),
        "second": str(given.second),
        "split": given.split,
        "images": len(common),
        "left_out": a.left_out,
        "samples": given.samples,
        "seed": given.seed,
        "scores": [asdict(difference) | {"difference": difference.difference} for difference in found],
        "by": given.by,
        "per_image": _images(a, b, first, second, given.by),
    }


def find_captions(path: Path) -> Path:
    """The file of captions of a results.json, or the file itself if it is one of captions."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return path  # whoever reads the captions says what is wrong
    if not (isinstance(content, dict) and "predictions_sha256" in content):
        return path
    captions = path.with_name(PREDICTIONS)
    if not captions.is_file() or _sha256(captions) != content["predictions_sha256"]:
        raise CaptionBotError(
            f"{captions} is missing or of another run than {path}; evaluate again, each captioner into a "
            "folder of its own, or give the files of captions themselves."
        )
    return captions


def describe(comparison: dict[str, Any], show: int) -> str:
    """The comparison as text: a line a score, then the images that differ most."""
    lines = [
        f"{comparison['images']} images, split '{comparison['split']}'",
        f"A: {comparison['first']}",
        f"B: {comparison['second']}",
        "",
        f"{'':8} {'A':>8} {'B':>8} {'B - A':>8}  95 % interval       p",
    ]
    lines += [
        "{name:8} {first:8.4f} {second:8.4f} {difference:+8.4f}  {low:+.4f} {high:+.4f}  {p:7.4f}".format(
            **score
        )
        for score in comparison["scores"]
    ]
    lines.append("")
    ranked = comparison["per_image"]
    better = [row for row in ranked[::-1][:show] if row["second"] > row["first"]]
    worse = [row for row in ranked[:show] if row["second"] < row["first"]]
    for title, rows in (("B is better", better), ("A is better", worse)):
        lines.append(f"{title}, by {comparison['by']}:")
        lines += [
            "  {image}  {first:.3f} -> {second:.3f}\n    A: {A}\n    B: {B}".format(**row) for row in rows
        ]
    return "\n".join(lines)


def _images(
    a: Measured, b: Measured, first: dict[str, str], second: dict[str, str], by: str
) -> list[dict[str, Any]]:
    """A row an image, where A is better than B first."""
    scores_a, scores_b = a.each(), b.each()
    if by not in scores_a:
        raise CaptionBotError(f"There is no score '{by}' here; --by is one of {', '.join(scores_a)}.")
    return [
        {
            "image": a.images[i],
            "first": float(scores_a[by][i]),
            "second": float(scores_b[by][i]),
            "A": first[a.images[i]],
            "B": second[a.images[i]],
        }
        for i in np.argsort(scores_b[by] - scores_a[by], kind="stable")
    ]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
