"""Score a captioner, or captions from anywhere, against what people wrote.

    python -m training.evaluate --model NAME|DIR --images DIR|TAR --annotations FILE --out results.json
    python -m training.evaluate --predictions FILE --annotations FILE --out results.json

Beside results.json it leaves predictions.json, the captions in COCO's results format.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captionbot.captioner import Captioner
from captionbot.errors import CaptionBotError
from captionbot.images import load_image
from captionbot.search_options import SearchOptions
from training.data import Example, ImageStore, open_images
from training.data.coco import read_coco, read_results
from training.data.flickr import SPLIT_LISTS, read_karpathy, read_token_file
from training.metrics import score

FORMATS = ("karpathy", "coco", "flickr")


def main(arguments: Sequence[str] | None = None) -> int:
    summary, *_ = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser("python -m training.evaluate", description=summary)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", help="captioner by name, folder or card (default: the one that ships)")
    what.add_argument(
        "--predictions", type=Path, help="captions in COCO's results format, instead of a captioner"
    )
    parser.add_argument("--images", type=Path, help="folder or tar of the images")
    parser.add_argument("--annotations", type=Path, required=True, help="what people wrote")
    parser.add_argument("--format", choices=FORMATS, default="karpathy", help="of the annotations")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=0, help="only the first so many images")
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument(
        "--search",
        type=json.loads,
        default={},
        help="other search options as JSON (default: the captioner's own)",
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-meteor", action="store_true", help="leave out METEOR, which needs Java")
    parser.add_argument("--out", type=Path, default=Path("results.json"))
    given = parser.parse_args(arguments)
    try:
        results = evaluate(given)
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(results, indent=1))
    return 0


def evaluate(given: argparse.Namespace) -> dict[str, Any]:
    """Caption (or read captions), score, and write both files."""
    examples, ids = _annotations(given.annotations, given.format, given.split)
    examples = examples[: given.limit or None]
    results: dict[str, Any] = {
        "model": given.model or "default",
        "split": given.split,
        "images": len(examples),
    }
    if given.predictions:
        results["model"] = str(given.predictions)
        captions = _by_name(read_results(given.predictions), ids, examples)
    else:
        if not given.images:
            raise CaptionBotError("A captioner needs --images, the folder or tar of the images to caption.")
        captioner = Captioner.from_pretrained(given.model, given.device)
        options = captioner.options(beam_size=given.beam_size, **given.search)
        started = time.perf_counter()
        captions = caption_all(captioner, open_images(given.images), examples, options, given.batch_size)
        seconds = time.perf_counter() - started
        results |= {
            "model": captioner.name,
            "beam_size": given.beam_size,
            "seconds": round(seconds, 2),
            "images_per_second": round(len(examples) / seconds, 2),
        }
    references = {example.name: example.captions for example in examples}
    results |= score(captions, references, meteor=not given.no_meteor)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n")
    predictions = [
        {"image_id": ids.get(name, name), "caption": caption} for name, caption in captions.items()
    ]
    given.out.with_name("predictions.json").write_text(
        json.dumps(predictions, indent=1, ensure_ascii=False) + "\n"
    )
    return results


def caption_all(
    captioner: Captioner,
    store: ImageStore,
    examples: Iterable[Example],
    options: SearchOptions,
    batch_size: int,
) -> dict[str, str]:
    """The best caption of every example by name; the images are decoded from the store batch by batch."""
    captions: dict[str, str] = {}
    names = iter(tqdm([example.name for example in examples], desc="captions", unit="image"))
    while batch := list(islice(names, batch_size)):
        found = captioner.caption([load_image(store[name]) for name in batch], options)
        captions |= {name: f.captions[0].text for name, f in zip(batch, found, strict=True)}
    return captions


def _annotations(path: Path, form: str, split: str) -> tuple[list[Example], dict[str, int]]:
    """Examples of the split, and the numbers of their images where the data set has such."""
    if form == "coco":
        return read_coco(path, split)
    if form == "karpathy":
        examples = read_karpathy(path)
    else:
        if split not in SPLIT_LISTS or not (path.parent / SPLIT_LISTS[split]).is_file():
            raise CaptionBotError(
                f"There is no list of the split '{split}' beside {path}; choose one of "
                f"{', '.join(SPLIT_LISTS)} whose list is there ({', '.join(SPLIT_LISTS.values())})."
            )
        examples = read_token_file(path, {split: path.parent / SPLIT_LISTS[split]})
    chosen = [example for example in examples if example.split == split]
    if not chosen:
        splits = ", ".join(sorted({example.split for example in examples}))
        raise CaptionBotError(f"{path} has no split '{split}'; choose one of {splits}.")
    return chosen, {}


def _by_name(results: dict[str, str], ids: dict[str, int], examples: Sequence[Example]) -> dict[str, str]:
    """Captions by file name, whatever the results call the images: by number, file name or stem."""
    captions = {}
    for example in examples:
        calls = (example.name, Path(example.name).stem, str(ids.get(example.name, "")))
        call = next((c for c in calls if c in results), None)
        if call is None:
            raise CaptionBotError(
                f"The predictions have no caption of '{example.name}'; give one for every image "
                "of the split, or take fewer with --limit."
            )
        captions[example.name] = results[call]
    return captions


if __name__ == "__main__":
    sys.exit(main())
