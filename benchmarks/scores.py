"""How long scores take: `python -m benchmarks.scores`.

One person's caption of every COCO val2017 photo against the other people's: first BLEU, ROUGE-L and
CIDEr-D by training.metrics and by pycocoevalcap, in turns, and whether they agree; then everything else
that `python -m training.evaluate` works out without Java. Times are seconds of the processor, which a busy
machine hardly changes, the median of several rounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from captionbot.errors import CaptionBotError
from captionbot.text.tokenizer import tokenize
from training.data.formats import load_dataset
from training.metrics import Measured, measure
from training.metrics.prose import describe
from training.metrics.significance import differences, intervals

ANNOTATIONS = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco" / "captions_val2017.json"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scores", description=__doc__)
    parser.add_argument("--annotations", type=Path, default=ANNOTATIONS, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        examples = [example for example in load_dataset(args.annotations) if len(example.captions) > 1]
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        return 2
    # Joined words are read as the same words again, so both score the very same words.
    humans = {e.name: [" ".join(tokenize(caption)) for caption in e.captions] for e in examples}
    captions = {name: texts[0] for name, texts in humans.items()}
    references = {name: texts[1:] for name, texts in humans.items()}
    rounds = range(args.rounds)
    ours, theirs = [], []
    for _ in rounds:
        seconds, measured = timed(lambda: measure(captions, references, meteor=False, spice=False))
        ours.append(seconds)
        seconds, expected = timed(lambda: coco_caption(captions, references))
        theirs.append(seconds)
    pairs = sum(map(len, references.values()))
    print(f"{len(captions)} captions, {pairs} references; our time includes the tokenizer, theirs none")
    print(f"ours {median(ours):.2f} s, pycocoevalcap {median(theirs):.2f} s: {ratio(theirs, ours):.1f} times")
    for name, value in measured.corpus().items():
        print(f"  {name:8} ours {value:.12f}  theirs {expected[name]:.12f}")
    for title, work in rest(measured):
        print(f"{title}: {median(timed(work)[0] for _ in rounds):.2f} s")
    return 0


def rest(measured: Measured) -> list[tuple[str, Callable[[], object]]]:
    """What evaluation and comparison work out beside the scores."""
    tallies = measured.tallies
    return [
        ("how the captions read", lambda: describe(measured.captions)),
        ("intervals by 1,000 bootstrapped samples", lambda: intervals(tallies)),
        ("a paired test with 10,000 samples", lambda: differences(tallies, tallies, 10_000)),
    ]


def coco_caption(captions: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    """The same scores by pycocoevalcap."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    lists = {name: [caption] for name, caption in captions.items()}
    bleus, _ = Bleu(4).compute_score(references, lists, verbose=0)
    scores = {f"Bleu_{n}": value for n, value in enumerate(bleus, 1)}
    scores["ROUGE_L"], _ = Rouge().compute_score(references, lists)
    scores["CIDEr"], _ = Cider().compute_score(references, lists)
    return scores


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    return median(a / b for a, b in zip(theirs, ours, strict=True))


if __name__ == "__main__":
    sys.exit(main())
