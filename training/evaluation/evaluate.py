"""Score a captioner, or captions from anywhere, against what people wrote.

    python -m training.evaluate --model NAME|DIR --images DIR|TAR --annotations FILE --out results.json
    python -m training.evaluate --predictions FILE --annotations FILE --out results.json

Beside results.json it leaves predictions.json, the captions in COCO's results format.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captionbot.captioner import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.errors import CaptionBotError
from captionbot.search.options import SearchOptions
from captionbot.text.tokenizer import tokenize
from captionbot.types import Captioned, Size
from training.data import Example, ImageStore
from training.data.formats import FORMATS
from training.data.mixture import images_of, is_mixture
from training.data.ready import ReadyFeatures, open_ready, stacked
from training.evaluation.predictions import captions_of, load_split, read_predictions, write_predictions
from training.metrics import Measured, measure
from training.metrics.clip import Clip, clip_tallies
from training.metrics.diversity import diversity
from training.metrics.prose import describe, faults
from training.metrics.significance import intervals
from training.run.checkpoints import check_outputs
from training.run.config import check_least

PREDICTIONS = "predictions.json"
PER_IMAGE = "per_image.jsonl"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        "python -m training.evaluate",
        description="Score a captioner, or captions from anywhere, against what people wrote.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", help="captioner by name, folder or card (default: the one that ships)")
    what.add_argument("--predictions", type=Path, help="file of captions, instead of a captioner")
    parser.add_argument(
        "--images", type=Path, help="folder or tar of the images; a mixture says where its are"
    )
    parser.add_argument("--features", type=Path, help="ready-made features, for a captioner of such")
    add_annotation_flags(parser)
    parser.add_argument("--limit", type=int, default=0, help="only the first so many images")
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument(
        "--search",
        type=search_options,
        default={},
        help="other search options as JSON (default: the captioner's own)",
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--samples", type=int, default=1000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument(
        "--several",
        type=int,
        default=0,
        help="captions to ask for of each image as well, of which the diversity is measured",
    )
    parser.add_argument(
        "--clip",
        metavar="NAME|DIR",
        help="a CLIP, such as openai/clip-vit-base-patch32, to add CLIPScore and RefCLIPScore by",
    )
    parser.add_argument("--per-image", action="store_true", help="leave per_image.jsonl too")
    parser.add_argument("--out", type=Path, default=Path("results.json"))
    given = parser.parse_args(arguments)
    results = evaluate(given)
    print(json.dumps(results, indent=1))
    return 0


def add_annotation_flags(parser: argparse.ArgumentParser) -> None:
    """What captions are scored against, and by what: the same for `training.evaluation.compare`."""
    parser.add_argument("--annotations", type=Path, required=True, help="what people wrote")
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto", help="of the annotations")
    parser.add_argument("--split", default="val", help="of the annotations, or all (default: %(default)s)")
    parser.add_argument("--subset", action="store_true", help="only the images that have a prediction")
    parser.add_argument("--no-meteor", action="store_true", help="leave out METEOR, which needs Java")
    parser.add_argument("--no-spice", action="store_true", help="leave out SPICE, which needs Java and more")


def search_options(text: str) -> dict[str, Any]:
    """The value of a flag `--search`."""
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a JSON object; give search options such as '{{\"max_length\": 12}}'."
        )
    return options


def evaluate(given: argparse.Namespace) -> dict[str, Any]:
    """Caption (or read captions), score, and write all files."""
    check_least(given, {"limit": 0, "batch_size": 1, "samples": 1, "seed": 0, "several": 0})
    if given.several == 1 or (given.several and given.predictions):
        raise CaptionBotError(
            f"--several {given.several} asks a captioner for captions to compare with each other; give "
            "2 or more, and no --predictions."
        )
    predictions, rows = given.out.parent / PREDICTIONS, given.out.parent / PER_IMAGE
    outputs = [given.out, predictions, *[rows] * given.per_image]
    check_outputs(outputs, [given.predictions, given.annotations])
    if given.clip and not (given.images or is_mixture(given.annotations)):
        raise CaptionBotError("CLIPScore looks at the images: give --images, their folder or tar.")
    clip = Clip(given.clip) if given.clip else None  # before hours of captioning
    examples, training = load_split(given.annotations, given.format, given.split)
    examples = examples[: given.limit or None]
    results: dict[str, Any]
    several: dict[str, list[str]] = {}
    if given.predictions:
        captions = captions_of(examples, read_predictions(given.predictions), given.subset)
        results = {"model": str(given.predictions), "split": given.split, "images": len(captions)}
    else:
        if not (given.images or given.features or is_mixture(given.annotations)):
            raise CaptionBotError("A captioner needs --images, the folder or tar of the images to caption.")
        captioner = Captioner.from_pretrained(given.model, given.device)
        wanted = {"beam_size": max(given.beam_size, given.several), "num_return": max(1, given.several)}
        options = captioner.options(**wanted | given.search)
        started = time.perf_counter()
        if given.features:
            ask = _of_features(captioner, open_ready(given.features), options)
        else:
            ask = _of_photos(captioner, images_of(given.annotations, given.images), options)
        several = _captions(ask, examples, given.batch_size)
        captions = _best(several)
        seconds = time.perf_counter() - started
        results = {
            "model": captioner.name,
            "split": given.split,
            "images": len(captions),
            "beam_size": options.beam_size,
            "seconds": round(seconds, 2),
            "images_per_second": round(len(captions) / seconds, 2),
        }
    references = {example.name: example.captions for example in examples}
    measured = measure(captions, references, meteor=not given.no_meteor, spice=not given.no_spice)
    if clip:
        store = images_of(given.annotations, given.images)
        photos = (store.load(name) for name in captions)
        humans = [references[name] for name in captions]
        tallies = (*measured.tallies, *clip_tallies(clip, photos, list(captions.values()), humans))
        measured = dataclasses.replace(measured, tallies=tallies)
    known = [tokenize(caption) for example in training for caption in example.captions] or None
    results |= measured.corpus() | {
        "left_out": measured.left_out,
        "bootstrap": {"samples": given.samples, "seed": given.seed},
        "intervals": intervals(measured.tallies, given.samples, given.seed),
        "captions": describe(measured.captions, known),
        "people": describe([humans[0] for humans in measured.references], known),
    }
    if given.several:
        words = [[tokenize(text) for text in several[name]] for name in measured.images]
        results["diversity"] = {"captions": given.several, **diversity(words, measured.references)}
    write_predictions(predictions, examples, captions)
    results["predictions_sha256"] = hashlib.sha256(predictions.read_bytes()).hexdigest()
    given.out.write_text(json.dumps(results, indent=1) + "\n")
    if given.per_image:
        lines = (json.dumps(row, ensure_ascii=False) for row in per_image(measured, captions))
        rows.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")
    return results


def per_image(measured: Measured, captions: dict[str, str]) -> Iterable[dict[str, Any]]:
    """A row an image: its caption, every score of this caption alone, and what is suspicious in it."""
    each = measured.each()
    for i, image in enumerate(measured.images):
        scores = {name: float(values[i]) for name, values in each.items()}
        yield {"image": image, "caption": captions[image], **scores, "faults": faults(measured.captions[i])}


def caption_all(
    captioner: Captioner,
    store: ImageStore,
    examples: Iterable[Example],
    options: SearchOptions,
    batch_size: int,
) -> dict[str, str]:
    """The best caption of every example by name; the images are decoded from the store batch by batch."""
    return _best(_captions(_of_photos(captioner, store, options), examples, batch_size))


def caption_ready(
    captioner: Captioner,
    ready: ReadyFeatures,
    examples: Iterable[Example],
    options: SearchOptions,
    batch_size: int,
) -> dict[str, str]:
    """`caption_all` from ready-made features, which are read batch by batch."""
    return _best(_captions(_of_features(captioner, ready, options), examples, batch_size))


def _best(captions: dict[str, list[str]]) -> dict[str, str]:
    return {name: texts[0] for name, texts in captions.items()}


def _captions(
    ask: Callable[[list[Example]], list[Captioned]], examples: Iterable[Example], batch_size: int
) -> dict[str, list[str]]:
    """The captions of every example by name, best first."""
    captions: dict[str, list[str]] = {}
    waiting = iter(tqdm(list(examples), desc="captions", unit="image"))
    while batch := list(islice(waiting, batch_size)):
        found = zip(batch, ask(batch), strict=True)
        captions |= {example.name: [c.text for c in captioned.captions] for example, captioned in found}
    return captions


def _of_photos(
    captioner: Captioner, store: ImageStore, options: SearchOptions
) -> Callable[[list[Example]], list[Captioned]]:
    return lambda batch: captioner.caption([store.load(example.name) for example in batch], options)


def _of_features(
    captioner: Captioner, ready: ReadyFeatures, options: SearchOptions
) -> Callable[[list[Example]], list[Captioned]]:
    taken = int(captioner.card.decoder["feature_size"])

    def ask(batch: list[Example]) -> list[Captioned]:
        features = stacked([ready.load(example.name, example.image_id) for example in batch])
        if features.values.shape[2] != taken:
            raise CaptionBotError(
                f"The features in {ready.path} have {features.values.shape[2]:,} numbers a place and "
                f"{captioner.name} takes {taken:,}; give features of the extractor that it learned from."
            )
        return captioner.caption_features(features, [Size(1, 1)] * len(batch), options)

    return ask
