"""How far our words are from those of coco-caption's Java tokenizer: `python -m benchmarks.tokenizer`.

It prints how many captions come out word for word the same, those that do not, and what the difference
does to the scores of one person's captions against the other people's of the same photos. Needs Java.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from captionbot.errors import CaptionBotError
from captionbot.text.tokenizer import tokenize
from training.data import Example
from training.data.formats import load_dataset
from training.metrics.overlap import CiderD, bleu, rouge_l

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ANNOTATIONS = [SHARED / "flickr8k" / "dataset_flickr8k.json", SHARED / "coco" / "captions_val2017.json"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokenizer", description=__doc__)
    parser.add_argument("annotations", type=Path, nargs="*", default=ANNOTATIONS, metavar="FILE")
    args = parser.parse_args(argv)
    try:
        for path in args.annotations:
            compare(path, load_dataset(path))
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def compare(path: Path, examples: Sequence[Example]) -> None:
    captions = [caption for example in examples for caption in example.captions]
    ours, theirs = [tokenize(caption) for caption in captions], java_words(captions)
    different = [i for i, words in enumerate(ours) if words != theirs[i]]
    print(f"{path.name}: {len(captions) - len(different)} of {len(captions)} captions are the same")
    for i in different:
        print(f"  {captions[i]}\n    ours: {' '.join(ours[i])}\n    Java: {' '.join(theirs[i])}")
    for title, words in (("ours", ours), ("Java", theirs)):
        numbers = "  ".join(f"{name} {value:.6f}" for name, value in leave_one_out(examples, words).items())
        print(f"  {title}: {numbers}")


def java_words(captions: Sequence[str]) -> list[list[str]]:
    """Raises CaptionBotError where Java or pycocoevalcap is missing."""
    if shutil.which("java") is None or find_spec("pycocoevalcap") is None:
        raise CaptionBotError("coco-caption's tokenizer needs Java and the Python package pycocoevalcap.")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    found = PTBTokenizer().tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    return [found[i][0].split() for i in range(len(captions))]


def leave_one_out(examples: Sequence[Example], words: Sequence[list[str]]) -> dict[str, float]:
    """Scores of every photo's first caption against its others, from the words of all captions in order."""
    rest = iter(words)
    people = [[next(rest) for _ in example.captions] for example in examples]
    captions, references = zip(*((own[0], own[1:]) for own in people if len(own) > 1), strict=True)
    return {f"Bleu_{n}": value for n, value in enumerate(bleu(captions, references), 1)} | {
        "ROUGE_L": float(rouge_l(captions, references).mean()),
        "CIDEr": float(CiderD(references)(captions).mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
