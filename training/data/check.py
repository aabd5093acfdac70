"""What is wrong with a data set: `python -m training.data check PATH`."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from captionbot.errors import CaptionBotError
from captionbot.images.load import load_image
from captionbot.text.tokenizer import tokenize
from captionbot.text.vocabulary import Vocabulary
from training.data import Example, ImageStore

THRESHOLDS = (1, 2, 5)
MAX_BITS = 6  # of 64, in which the hashes of photos that look alike may differ; less than 8, see `_alike`
MAX_DIFFERENCE = 6.0  # of 255, on average between their thumbnails' grey values

_THUMBNAIL = 16  # pixels a side


@dataclass(frozen=True)
class Report:
    """What a check found.

    splits: number of images, captions and words by split.
    problems: one line for each, by kind; a kind without any is left out.
    lengths: how many captions have so many words, by number of words.
    vocabulary: how many words occur at least so often in the training captions, by threshold.
    """

    splits: dict[str, dict[str, int]]
    problems: dict[str, list[str]]
    lengths: dict[int, int]
    vocabulary: dict[int, int]


@dataclass(frozen=True)
class Print:
    """What is compared of a photo.

    digest: SHA-256 of its size and decoded pixels.
    bits: difference hash, 64 bits.
    thumbnail: (256,) grey values, to tell photos apart whose hashes are near by chance.
    """

    digest: str
    bits: int
    thumbnail: np.ndarray


def check(examples: Sequence[Example], store: ImageStore | None, threads: int = 4) -> Report:
    """All that can be found without a person; photos are looked at if a store of them is given."""
    words = {example.name: [tokenize(caption) for caption in example.captions] for example in examples}
    problems = defaultdict(list, _caption_problems(examples, words))
    if store is not None:
        found = {example.name: store.find(example.name) for example in examples}
        problems["missing images"] = sorted(name for name, there in found.items() if there is None)
        problems["images without captions"] = sorted(set(store.names()) - set(found.values()))
        prints: dict[str, Print] = {}
        for name, seen in _look_at(store, threads):
            if isinstance(seen, Print):
                prints[name] = seen
            else:
                problems["broken images"].append(seen)
        splits = {found[example.name] or example.name: example.split for example in examples}
        problems |= _repeated(splits, prints)
    train = [caption for example in examples if example.split == "train" for caption in words[example.name]]
    return Report(
        {
            split: {
                "images": sum(example.split == split for example in examples),
                "captions": sum(len(e.captions) for e in examples if e.split == split),
                "words": sum(len(c) for e in examples if e.split == split for c in words[e.name]),
            }
            for split in sorted({example.split for example in examples})
        },
        {kind: lines for kind, lines in sorted(problems.items()) if lines},
        dict(sorted(Counter(len(caption) for captions in words.values() for caption in captions).items())),
        {n: len(Vocabulary.build(train, n)) - len(Vocabulary.build([])) for n in THRESHOLDS},
    )


def _caption_problems(examples: Iterable[Example], words: dict[str, list[list[str]]]) -> dict[str, list[str]]:
    """Captions without a word, and captions of one image that are the same word for word."""
    problems = defaultdict(list)
    for example in examples:
        if not example.captions:
            problems["listed images without captions"].append(example.name)
        texts = Counter(" ".join(tokens) for tokens in words[example.name])
        for text, count in texts.items():
            if not text:
                problems["empty captions"].append(f"{example.name}, {count} times")
            elif count > 1:
                problems["duplicate captions"].append(f"{example.name}, {count} times: {text}")
    return problems


def _look_at(store: ImageStore, threads: int) -> Iterator[tuple[str, Print | str]]:
    """Every image's print in order of name, or a sentence on why it cannot be decoded."""

    def look(name: str) -> tuple[str, Print | str]:
        try:
            return name, fingerprint(load_image(store[name]))
        except CaptionBotError as error:
            return name, f"{name}: {error}"

    with ThreadPoolExecutor(threads) as pool:  # Pillow decodes without Python's lock
        yield from tqdm(pool.map(look, store.names()), "images", len(store), unit="image", disable=None)


def fingerprint(image: Image.Image) -> Print:
    """The print of an RGB image."""
    digest = hashlib.sha256(f"{image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    grey = image.convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    thumbnail = np.asarray(grey.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)).ravel()
    return Print(digest.hexdigest(), int.from_bytes(bits.tobytes(), "big"), thumbnail)


def _repeated(splits: dict[str, str], prints: dict[str, Print]) -> dict[str, list[str]]:
    """Photos that are there twice, among those that have captions: alike pixel for pixel, or to the eye."""
    copies: dict[str, list[str]] = defaultdict(list)
    for name in sorted(splits.keys() & prints.keys()):
        copies[prints[name].digest].append(name)
    twice = [("the same photo", names) for names in copies.values() if len(names) > 1]
    # One of each, since a placeholder that stands for thousands of lost photos would make millions of pairs.
    twice += [("photos that look alike", pair) for pair in _alike([n[0] for n in copies.values()], prints)]
    problems = defaultdict(list)
    for how, names in twice:
        where = "one split" if len({splits[name] for name in names}) == 1 else "two splits"
        problems[f"{how} in {where}"].append(", ".join(f"{name} ({splits[name]})" for name in names))
    return problems


def _alike(names: Sequence[str], prints: dict[str, Print]) -> list[list[str]]:
    """Pairs of names whose hashes differ in MAX_BITS at most and whose thumbnails are near, in order."""
    if not names:
        return []
    bits = np.array([prints[name].bits for name in names], np.uint64)
    thumbnails = np.array([prints[name].thumbnail for name in names], np.int16)
    pairs = set()
    for byte in bits.view(np.uint8).reshape(-1, 8).T:  # near hashes share at least one of their eight bytes
        for value in np.unique(byte):
            bucket = np.flatnonzero(byte == value)
            for i, one in enumerate(bucket):
                rest = bucket[i + 1 :]
                rest = rest[np.bitwise_count(bits[rest] ^ bits[one]) <= MAX_BITS]
                near = np.abs(thumbnails[rest] - thumbnails[one]).mean(axis=1) <= MAX_DIFFERENCE
                pairs |= {(int(one), int(other)) for other in rest[near]}
    return [[names[one], names[other]] for one, other in sorted(pairs)]
