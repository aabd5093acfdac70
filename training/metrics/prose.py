"""How captions read, whatever they describe: their length, variety, novelty and faults."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Words = Sequence[str]

# Few people end a caption on these; on "outside", "up" or "behind" many do.
_ENDINGS = """
    a an the this that these those his its their my your our every each
    of in on at to for from by with into onto over under through across near between beside against toward
    as and or but while who which whose where when is are was were be being has have
"""
_UNFINISHED = frozenset(_ENDINGS.split())


def describe(captions: Sequence[Words], training: Iterable[Words] | None = None) -> dict[str, float]:
    """What the captions of a corpus are like.

    mean_length: words a caption. vocabulary: different words. distinct_captions: share of captions left
    when each is counted once. distinct_1 .. distinct_4: different n-grams among all n-grams (Li et al.,
    arXiv 1510.03055). Then the shares of captions with a fault, by `faults`, and, where the captions of
    training are given, novel: the share that is none of them word for word.
    """
    whole = [tuple(words) for words in captions]
    report: dict[str, float] = {
        "mean_length": sum(map(len, whole)) / len(whole),
        "vocabulary": len({word for words in whole for word in words}),
        "distinct_captions": len(set(whole)) / len(whole),
    }
    for n in range(1, 5):
        found = [ngram for words in whole for ngram in ngrams(words, n)]
        report[f"distinct_{n}"] = len(set(found)) / max(1, len(found))
    faulty = [faults(words) for words in whole]
    report |= {name: sum(name in names for names in faulty) / len(faulty) for name in FAULTS}
    if training is not None:
        known = {tuple(words) for words in training}
        report["novel"] = sum(words not in known for words in whole) / len(whole)
    return report


def faults(words: Words) -> list[str]:
    """What is suspicious in one caption, of `FAULTS`: a person's can be so too, but seldom is.

    repeats: it says some bigram twice ("a red shirt and a red shirt").
    stutters: some words are followed at once by themselves ("a man in a in a").
    breaks_off: it ends in an article, a preposition or the like, or is empty.
    """
    return [name for name, fault in FAULTS.items() if fault(words)]


def _repeats(words: Words) -> bool:
    bigrams = ngrams(words, 2)
    return len(set(bigrams)) < len(bigrams)


def _stutters(words: Words) -> bool:
    words = list(words)
    return any(
        words[i : i + n] == words[i + n : i + 2 * n]
        for n in range(1, len(words) // 2 + 1)
        for i in range(len(words) - 2 * n + 1)
    )


def _breaks_off(words: Words) -> bool:
    return not words or words[-1] in _UNFINISHED


FAULTS = {"repeats": _repeats, "stutters": _stutters, "breaks_off": _breaks_off}


def ngrams(words: Words, n: int) -> list[tuple[str, ...]]:
    """The runs of n words, in order."""
    return list(zip(*(words[i:] for i in range(n)), strict=False))
