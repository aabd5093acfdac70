"""How much the captions of one image differ from each other, which scores of single captions do not see."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from training.metrics.overlap import MAX_N, bleu
from training.metrics.prose import ngrams

Tokens = Sequence[str]


def diversity(
    captions: Sequence[Sequence[Tokens]], references: Sequence[Sequence[Tokens]]
) -> dict[str, float]:
    """What several captions of each of n images have in common, m of each, two at least.

    self_cider: 1 where the captions of an image have nothing in common, 0 where they are the same (Wang and
        Chan, arXiv 1903.12020); n-grams weigh as in CIDEr, by the references of all images.
    div_1, div_2: different words and pairs of words of an image's captions for each word of them.
    mutual_bleu_4: of each caption against the image's others, averaged; lower is more diverse.
    distinct_captions: share of an image's captions that are left when each is counted once.
    """
    kernel = SelfCider(references)
    numbers = [
        (
            kernel(image),
            _distinct(image, 1),
            _distinct(image, 2),
            len({tuple(words) for words in image}) / len(image),
        )
        for image in captions
    ]
    self_cider, one, two, distinct = np.mean(numbers, 0)
    others = [[image[:i] + image[i + 1 :] for i in range(len(image))] for image in map(list, captions)]
    flat = [words for image in captions for words in image]
    mutual = bleu(flat, [rest for image in others for rest in image])[3]
    return {
        "self_cider": float(self_cider),
        "div_1": float(one),
        "div_2": float(two),
        "mutual_bleu_4": float(mutual),
        "distinct_captions": float(distinct),
    }


class SelfCider:
    """Self-CIDEr (arXiv 1903.12020, section 3.2): how evenly an image's captions spread over directions.

    K_ij is CIDEr of caption i against j, without the clipping and the length penalty of CIDEr-D, and so a
    kernel. With its eigenvalues the score is -log(sqrt(largest) / sum of their roots), over log m.
    """

    def __init__(self, references: Sequence[Sequence[Tokens]]) -> None:
        self.images = len(references)
        self.seen = [
            Counter(ngram for image in references for ngram in {g for said in image for g in ngrams(said, n)})
            for n in range(1, MAX_N + 1)
        ]

    def __call__(self, captions: Sequence[Tokens]) -> float:
        roots = np.sqrt(np.linalg.eigvalsh(self.kernel(captions)).clip(0))
        if not roots.sum():
            return 0.0  # of no word at all
        return float(-math.log(roots[-1] / roots.sum()) / math.log(len(captions)))

    def kernel(self, captions: Sequence[Tokens]) -> np.ndarray:
        """(m, m) cosines of the captions' weighed n-grams, the mean over n."""
        total = np.zeros((len(captions), len(captions)))
        for n, seen in enumerate(self.seen, 1):
            counted = [Counter(ngrams(words, n)) for words in captions]
            numbers = {ngram: i for i, ngram in enumerate(dict.fromkeys(g for c in counted for g in c))}
            vectors = np.zeros((len(captions), len(numbers) or 1))
            for row, counts in zip(vectors, counted, strict=True):
                for ngram, count in counts.items():
                    row[numbers[ngram]] = count * math.log(self.images / max(1, seen[ngram]))
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
            total += vectors @ vectors.T
        return total / MAX_N


def _distinct(captions: Sequence[Tokens], n: int) -> float:
    found = {ngram for words in captions for ngram in ngrams(words, n)}
    return len(found) / max(1, sum(map(len, captions)))
