"""Captions of a corpus for photos that have none: `python -m training.pseudo CAPTIONER --photos PATH ...`.

A kernel ridge regression on the encoder's mean features, fitted on the captioned photos (that of
`training.evidence`), says which words and pairs of words people would say of a photo; the corpus's sentences
that fit best become its captions. Where the photos' ImageNet classes are known, only sentences that name the
class count (`training/data/imagenet_words.txt`). The result is a JSONL table, a data set of training photos.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from captionbot.cli.commands import Parser, command
from captionbot.decoders.evidence import ALONE
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.text.tokenizer import tokenize
from captionbot.text.vocabulary import Vocabulary
from training.data import open_images
from training.data.files import read_text
from training.data.flickr import read_text_captions
from training.fit.reranker import bags_of_phrases, regression
from training.run.captioners import load_to_train
from training.run.config import TrainingConfig, check_least
from training.run.distributed import World, device_of
from training.run.features import autocast
from training.run.splits import Split, read_splits
from training.run.tasks import means_of

WORDS = Path(__file__).parents[1] / "data" / "imagenet_words.txt"
MIN_COUNT = 8  # captioned photos that a phrase has to be said of
KNOWN = 40  # captions of the corpus that a label's last word has to be in, to be its class's name
LONG = 0.7  # a sentence's log-odds are divided by its length to this power, as in the search
SENTENCES = 400  # that are looked at, a photo


@command
def main(arguments: Sequence[str] | None = None) -> int:
    summary, *_ = (__doc__ or "").splitlines()
    defaults = TrainingConfig()
    parser = Parser("python -m training.pseudo", description=summary)
    parser.add_argument("captioner", help="whose encoder sees the photos: a run's folder, name or card")
    parser.add_argument("--data", default=defaults.data, help="captioned photos to learn from")
    parser.add_argument("--photos", required=True, help="folder or tar of photos without captions")
    parser.add_argument("--corpus", required=True, help="captions without photos (.jsonl, .jsonl.gz)")
    parser.add_argument("--classes", type=Path, help="JSONL of each photo's `image`, `wnid` and `label`")
    parser.add_argument("--captions", type=int, default=4, help="of each photo (default: %(default)s)")
    parser.add_argument("--cache", default=defaults.cache, help="folder for decoded photos and features")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl to write")
    given = parser.parse_args(arguments)
    check_least(given, {"captions": 1})
    given.out.parent.mkdir(parents=True, exist_ok=True)
    found = pseudo_captions(given, dataclasses.replace(defaults, data=given.data, cache=given.cache))
    rows = (json.dumps({"image": n, "captions": c, "split": "train"}) for n, c in found.items())
    given.out.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    print(f"{given.out}: {len(found)} photos")
    return 0


def pseudo_captions(given: argparse.Namespace, config: TrainingConfig) -> dict[str, list[str]]:
    """Captions by photo; photos whose class no caption of the corpus names have none."""
    card, encoder, _ = load_to_train(given.captioner)
    device = device_of("cpu")
    preprocessing, world = Preprocessing.from_json(card.preprocessing), World(device)

    names = open_images(given.photos).names()
    train, _ = read_splits(config)
    with torch.inference_mode(), autocast(device, config.amp):
        known = means_of(train, config, encoder, preprocessing, world)
        photos, elsewhere = Split(names, [[]] * len(names)), dataclasses.replace(config, images=given.photos)
        new = means_of(photos, elsewhere, encoder, preprocessing, world)
    centre, spread = known.mean(0), known.std(0) + 1e-6
    corpus = sorted({tuple(tokenize(caption)) for caption in read_text_captions(given.corpus)})
    corpus = [words for words in corpus if 6 <= len(words) <= 16]
    vocabulary = Vocabulary.build([c for image in train.captions for c in image], 1)
    phrases, shares = bags_of_phrases(train, vocabulary, MIN_COUNT)
    odds = regression((known - centre) / spread, shares)((new - centre) / spread)  # (n, N)
    called = class_words(given.classes, Counter(w for words in corpus for w in set(words)))
    return choose(names, corpus, said_phrases(corpus, vocabulary, phrases), odds, called, given.captions)


def said_phrases(corpus: Sequence[Sequence[str]], vocabulary: Vocabulary, phrases: Tensor) -> list[list[int]]:
    """The numbers of the phrases that each sentence says."""
    numbers = {tuple(phrase): number for number, phrase in enumerate(phrases.tolist())}
    found = []
    for words in tqdm(corpus, "corpus", mininterval=1):
        ids = vocabulary.encode(words)
        said = {(word, ALONE) for word in ids} | set(pairwise(ids))
        found.append([numbers[phrase] for phrase in said if phrase in numbers])
    return found


def choose(
    names: Sequence[str],
    corpus: Sequence[Sequence[str]],
    said: Sequence[Sequence[int]],
    odds: Tensor,
    called: dict[str, list[str]] | None,
    number: int,
) -> dict[str, list[str]]:
    """The sentences with the greatest odds for each photo, among those that say one of its words.

    odds: (n, N) of phrases. called: words by photo, None where classes are not known.
    """
    lengths = torch.tensor([len(words) for words in corpus]) ** LONG
    rows = torch.tensor([row for row, numbers in enumerate(said) for _ in numbers])
    columns = torch.tensor([column for numbers in said for column in numbers])
    bags = torch.sparse_coo_tensor(
        torch.stack([rows, columns]), torch.ones(len(rows)), (len(said), odds.shape[1])
    ).to_sparse_csr()
    naming: dict[str, set[int]] = {}
    for i, words in enumerate(corpus):
        for word in words:
            naming.setdefault(word, set()).add(i)
    found: dict[str, list[str]] = {}
    for start in tqdm(range(0, len(names), 64), "photos", mininterval=1):
        scores = (bags @ odds[start : start + 64].T).T / lengths  # (64, sentences)
        for name, row in zip(names[start : start + 64], scores, strict=True):
            candidates = torch.arange(len(corpus))
            if called is not None:
                naming_it = sorted(set().union(*(naming.get(w, ()) for w in called.get(name, []))))
                candidates = torch.tensor(naming_it, dtype=torch.long)
            best = candidates[row[candidates].topk(min(SENTENCES, len(candidates))).indices].tolist()
            if best:
                found[name] = [" ".join(corpus[i]) for i in apart(best, corpus, number)]
    return found


def apart(best: Sequence[int], corpus: Sequence[Sequence[str]], number: int) -> list[int]:
    """The first sentences that share no more than 70 % of their words with one before."""
    chosen: list[int] = []
    for i in best:
        words = set(corpus[i])
        if all(len(words & set(corpus[j])) <= 0.7 * len(words) for j in chosen):
            chosen.append(i)
        if len(chosen) == number:
            break
    return chosen


def class_words(file: Path | None, counts: Counter[str]) -> dict[str, list[str]] | None:
    """What captions call each photo's class: as of `WORDS`, or the last word of its label."""
    if file is None:
        return None
    from timm.data.imagenet_info import ImageNetInfo

    numbers = {wnid: number for number, wnid in enumerate(ImageNetInfo().label_names())}
    listed: dict[int, list[str]] = {}
    for line in read_text(WORDS).splitlines():
        if line and not line.startswith("#"):
            first, last, *words = line.split()
            listed |= {number: [w for w in words if w != "-"] for number in range(int(first), int(last) + 1)}
    called = {}
    for row in map(json.loads, read_text(file).splitlines()):
        number = numbers.get(row["wnid"])
        if number is None:
            raise CaptionBotError(f"{row['wnid']} is no class of ImageNet's 1,000.")
        (*_, last) = tokenize(row["label"])
        words = listed.get(number, [last] if counts[last] >= KNOWN else [])
        called[row["image"]] = words + [f"{word}s" for word in words]
    return called


if __name__ == "__main__":
    sys.exit(main())
