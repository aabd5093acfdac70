"""BLEU-1..4, ROUGE-L and CIDEr-D, equal to coco-caption's own, without Java.

Sentences are sequences of tokens, as `captionbot.text.tokenizer.tokenize` makes them; any hashable token will
do, ids too. Everywhere n is the number of hypotheses, and `references[i]` are the human captions of the
image of hypothesis i.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain

import numpy as np

from training.metrics.tally import Tally

Tokens = Sequence[Hashable]
NGrams = Counter[tuple[Hashable, ...]]

MAX_N = 4
_BITS, _LOW = 32, (1 << 32) - 1  # two numbers in one, so that numpy sorts pairs


def bleu(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus (Papineni et al., 2002), 0..1, with the closest reference length.

    Not smoothed, but for coco-caption's 1e-15 and 1e-9 that stand in for zero.
    """
    return bleu_tally(hypotheses, references).corpus().tolist()


def bleu_tally(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Tally:
    """What BLEU counts: correct and all n-grams of 1 to 4 tokens, length and closest reference length."""
    counts = np.zeros((len(hypotheses), 2 * MAX_N + 2))
    for row, hypothesis, humans in zip(counts, hypotheses, references, strict=True):
        most: NGrams = Counter()
        for human in humans:
            most |= _ngrams(human)
        for ngram, count in _ngrams(hypothesis).items():
            row[len(ngram) - 1] += min(count, most[ngram])
        row[MAX_N : 2 * MAX_N] = [max(0, len(hypothesis) - n) for n in range(MAX_N)]
        closest = min((abs(len(h) - len(hypothesis)), len(h)) for h in humans)[1]
        row[-2:] = len(hypothesis), closest
    return Tally(tuple(f"Bleu_{n}" for n in range(1, MAX_N + 1)), counts, _bleu_of_sums)


def _bleu_of_sums(sums: np.ndarray) -> np.ndarray:
    correct, guesses, lengths = sums[..., :MAX_N], sums[..., MAX_N : 2 * MAX_N], sums[..., -2:]
    precisions = (correct + 1e-15) / (guesses + 1e-9)
    ratio = (lengths[..., :1] + 1e-15) / (lengths[..., 1:] + 1e-9)
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return brevity * np.cumprod(precisions, axis=-1) ** (1 / np.arange(1, MAX_N + 1))


def rouge_l(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """ROUGE-L of each hypothesis (Lin, 2004; beta 1.2, best precision with best recall): (n,), 0..1."""
    beta2 = 1.2**2
    scores = np.zeros(len(hypotheses))
    for i, (hypothesis, humans) in enumerate(zip(hypotheses, references, strict=True)):
        candidate = hypothesis or ("",)  # coco-caption reads an empty line as one empty word
        humans = [human or ("",) for human in humans]
        common = [_common_subsequence(candidate, human) for human in humans]
        precision = max(common) / len(candidate)
        recall = max(c / len(human) for c, human in zip(common, humans, strict=True))
        if precision and recall:
            scores[i] = (1 + beta2) * precision * recall / (recall + beta2 * precision)
    return scores


class CiderD:
    """CIDEr-D (Vedantam et al., arXiv 1411.5726) against one corpus of references.

    An n-gram weighs its count times log(images / images whose references have it). References are
    weighed once, here, and hypotheses in arrays, all together, because this is the reward of
    self-critical training as well (Rennie et al., arXiv 1612.00563). Calls change nothing.
    """

    SIGMA = 6.0  # of the Gaussian penalty on a difference in length

    def __init__(self, references: Sequence[Sequence[Tokens]]) -> None:
        if not references or not all(references):
            raise ValueError("CIDEr-D needs at least one image, and a reference for every image")
        humans = [human for image in references for human in image]
        self._numbers = {token: i for i, token in enumerate(dict.fromkeys(chain.from_iterable(humans)))}
        self._tables: list[np.ndarray] = []  # for each n the keys of the corpus' n-grams, sorted
        self._humans_of = np.array([len(image) for image in references])
        self._first_human = np.cumsum(self._humans_of) - self._humans_of
        self._lengths = _bigrams(humans)
        self._vectors = []
        self._idf = []
        image_of = np.repeat(np.arange(len(references)), self._humans_of)
        for pairs, counts in self._count(humans):
            seen = np.unique(image_of[pairs >> _BITS] << _BITS | pairs & _LOW) & _LOW
            idf = math.log(len(references)) - np.log(np.bincount(seen))
            self._idf.append(np.append(idf, math.log(len(references))))  # the last: n-grams of no reference
            self._vectors.append(_Vectors(pairs, counts * idf[pairs & _LOW], len(humans)))

    def __call__(self, hypotheses: Sequence[Tokens], images: Sequence[int] | None = None) -> np.ndarray:
        """CIDEr-D of each hypothesis with coco-caption's factor of 10: (n,), 0..10.

        images: index in the corpus of the image that each describes; None: one for each image, in order.
        """
        image = np.arange(len(self._humans_of)) if images is None else np.asarray(images, dtype=np.int64)
        if len(hypotheses) != len(image):
            raise ValueError(f"{len(hypotheses)} hypotheses for {len(image)} images")
        scores, lengths = np.zeros(len(hypotheses)), _bigrams(hypotheses)
        for (pairs, counts), idf, humans in zip(
            self._count(hypotheses), self._idf, self._vectors, strict=True
        ):
            weights = counts * idf[np.minimum(pairs & _LOW, len(idf) - 1)]
            vectors = _Vectors(pairs, weights, len(hypotheses))
            for k in range(self._humans_of.max()):
                real = k < self._humans_of[image]  # images may have fewer references than others
                human = self._first_human[image] + k * real
                penalty = np.exp(-((lengths - self._lengths[human]) ** 2) / (2 * self.SIGMA**2))
                scores += real * penalty * vectors.clipped_cosine(humans, human)
        return 10.0 * scores / (MAX_N * self._humans_of[image])

    def _count(self, sentences: Sequence[Tokens]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each n the n-grams of sentences: sorted pairs `sentence << 32 | n-gram`, and their counts.

        An n-gram's number is the place of its key in the corpus' table, or beyond the table's end; its
        key is `number of its first n - 1 tokens << 32 | number of its last token`.
        """
        sizes = np.array([len(tokens) for tokens in sentences], dtype=np.int64)
        sentence = np.repeat(np.arange(len(sentences)), sizes)
        end = np.cumsum(sizes)[sentence]
        known = self._numbers
        new: dict[Hashable, int] = {}
        tokens = [
            known[token] if token in known else new.setdefault(token, len(known) + len(new))
            for token in chain.from_iterable(sentences)
        ]
        token = np.array(tokens, dtype=np.int64)
        start, ngram = np.arange(len(token)), np.zeros(len(token), dtype=np.int64)
        for n in range(MAX_N):
            inside = start + n < end[start]
            start = start[inside]
            keys = ngram[inside] << _BITS | token[start + n]
            if n == len(self._tables):  # only from __init__
                self._tables.append(np.unique(keys))
            ngram = _find(self._tables[n], keys)
            unknown = ngram < 0
            ngram[unknown] = len(self._tables[n]) + np.unique(keys[unknown], return_inverse=True)[1]
            yield np.unique(sentence[start] << _BITS | ngram, return_counts=True)


class _Vectors:
    """Sparse rows: the weights of the n-grams of sentences, for one n."""

    def __init__(self, pairs: np.ndarray, weights: np.ndarray, sentences: int) -> None:
        self.pairs = pairs  # sorted: sentence << 32 | n-gram
        self.weights = np.append(weights, 0.0)  # the last: n-grams that a sentence does not have
        self.norms = np.sqrt(np.bincount(pairs >> _BITS, weights**2, minlength=sentences))

    def clipped_cosine(self, others: _Vectors, rows: np.ndarray) -> np.ndarray:
        """Of every sentence here with one of the others, `rows`; no weight counts beyond the other's."""
        sentence = self.pairs >> _BITS
        theirs = others.weights[_find(others.pairs, rows[sentence] << _BITS | self.pairs & _LOW)]
        products = np.bincount(sentence, np.minimum(self.weights[:-1], theirs) * theirs, minlength=len(rows))
        norms = self.norms * others.norms[rows]
        return np.divide(products, norms, out=np.zeros(len(rows)), where=norms > 0)


def _find(table: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The place of each key in a sorted table, -1 where it is not there."""
    if not len(table):
        return np.full(len(keys), -1)
    places = np.searchsorted(table, keys).clip(max=len(table) - 1)
    return np.where(table[places] == keys, places, -1)


def _bigrams(sentences: Sequence[Tokens]) -> np.ndarray:
    """Lengths as CIDEr-D of coco-caption counts them, in bigrams."""
    return np.array([max(0, len(tokens) - 1) for tokens in sentences])


def _ngrams(tokens: Tokens) -> NGrams:
    """How often each n-gram of 1 to 4 tokens occurs."""
    tokens = tuple(tokens)
    return Counter(tokens[i : i + n] for n in range(1, MAX_N + 1) for i in range(len(tokens) - n + 1))


def _common_subsequence(a: Tokens, b: Tokens) -> int:
    """Length of the longest common subsequence, a column of the table at a time as the bits of an integer.

    H. Hyyrö, "Bit-parallel LCS-length computation revisited", AWOCA 2004.
    """
    places: dict[Hashable, int] = {}
    for i, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << i
    mask = (1 << len(a)) - 1
    row = mask
    for token in b:
        matches = row & places.get(token, 0)
        row = (row + matches | row - matches) & mask
    return len(a) - row.bit_count()
