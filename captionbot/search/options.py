"""How to search for a caption: the options that people know, checked where they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from captionbot.errors import CaptionBotError, shortened

MAX_TEXT = 4_000  # characters of any text: beginnings of captions, words to avoid, addresses, names

ALLOWED: dict[str, tuple[Any, float, float]] = {
    "beam_size": (Integral, 1, 100),
    "max_length": (Integral, 1, 200),
    "min_length": (Integral, 1, 200),
    "length_penalty": (Real, -10, 10),
    "no_repeat_ngram_size": (Integral, 0, 100),
    "num_return": (Integral, 1, 100),
    "num_groups": (Integral, 1, 100),
    "diversity_penalty": (Real, 0, 1000),
    "temperature": (Real, 0.01, 100),
    "top_k": (Integral, 0, 1_000_000),
    "top_p": (Real, 0.01, 1),
    "seed": (Integral, 0, 2**63 - 1),
}


def _shown(value: object) -> str:
    return f"'{shortened(value)}'" if isinstance(value, str) else shortened(value)


def checked_text(text: str, what: str = "A text") -> str:
    """The same text; CaptionBotError where it is longer than any that is read."""
    if len(text) > MAX_TEXT:
        raise CaptionBotError(
            f"{what} has {len(text):,} characters, where {MAX_TEXT:,} are allowed: make it shorter "
            f"(it begins with “{shortened(text[:40])}”)."
        )
    return text


@dataclass(frozen=True)
class SearchOptions:
    """How to search; `CaptionBotError` where a value is out of range or would have no effect.

    max_length, min_length: in words, the end not counted.
    length_penalty: 0 ranks by probability alone; the more, the longer the sentences.
    no_repeat_ngram_size: no n words in a row are said twice; 0 allows it.
    num_return: sentences wanted of an image; a beam search may find a few more, and a tiny
        vocabulary may hold fewer. When sampling, the number of samples; beam_size plays no part then.
    num_groups, diversity_penalty: diverse beams; a group's word costs the penalty for every beam of
        an earlier group that takes the same word in the same step.
    sample: draw the words from the model's distribution, sharpened by a temperature below 1, and cut
        to the top_k likeliest (0: all) and to the likeliest that hold top_p of the probability.
    exhaustive: go on until no beam could still reach the best num_return, however long it grew,
        instead of until none beats the finished ones at its present length.
    seed: of the samples; the same seed and batch give the same samples.
    evidence: rank what was finished by what the photo as a whole says for its words too, where the captioner
        has word evidence.
    """

    beam_size: int = 5
    max_length: int = 20
    min_length: int = 1
    length_penalty: float = 0.7
    no_repeat_ngram_size: int = 0
    num_return: int = 1
    num_groups: int = 1
    diversity_penalty: float = 0.0
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    exhaustive: bool = False
    seed: int | None = None
    evidence: bool = True

    def __post_init__(self) -> None:
        for name, (kind, low, high) in ALLOWED.items():
            value = getattr(self, name)
            if value is None and name == "seed":
                continue
            if not isinstance(value, kind) or not low <= value <= high:
                noun = "a whole number" if kind is Integral else "a number"
                raise CaptionBotError(f"{name} is {_shown(value)}; give {noun} from {low} to {high}.")
        for name in ("sample", "exhaustive", "evidence"):
            if not isinstance(value := getattr(self, name), bool):
                raise CaptionBotError(f"{name} is {_shown(value)}; give True or False.")
        if self.min_length > self.max_length:
            raise CaptionBotError(
                f"min_length is {self.min_length} and max_length {self.max_length}; "
                "give a min_length that is no larger."
            )
        if self.sample:
            self._refuse(("exhaustive", "num_groups", "diversity_penalty"), "a beam search; leave sample out")
            return
        self._refuse(("temperature", "top_k", "top_p", "seed"), "sampling; switch sample on with it")
        if self.num_return > self.beam_size:
            raise CaptionBotError(
                f"num_return is {self.num_return} and beam_size {self.beam_size}; "
                "give a num_return that is no larger, or a larger beam_size."
            )
        if self.beam_size % self.num_groups:
            raise CaptionBotError(
                f"beam_size is {self.beam_size} and num_groups {self.num_groups}; "
                "give a beam_size that the groups can share equally."
            )
        if (self.num_groups > 1) != (self.diversity_penalty > 0):
            raise CaptionBotError(
                f"num_groups is {self.num_groups} and diversity_penalty {self.diversity_penalty}; "
                "give more than one group and a penalty above 0, or neither."
            )

    def _refuse(self, names: Sequence[str], remedy: str) -> None:
        for name in names:
            if getattr(self, name) != getattr(SearchOptions, name):
                raise CaptionBotError(f"{name} is {getattr(self, name)}, which only has a use in {remedy}.")

    def score(self, total: float, length: int) -> float:
        """What sentences are ranked by: log-probability and word evidence over the length, end included."""
        return float(total / length**self.length_penalty)

    @property
    def width(self) -> int:
        """K, the beams or samples of an image."""
        return self.num_return if self.sample else self.beam_size

    @property
    def weighed(self) -> int:
        """M, the continuations weighed in a step: of 2 K at most K end, so that K are left to go on."""
        return self.width if self.sample else 2 * self.width

    @property
    def enough(self) -> int:
        """The finished sentences of a group that must be out of reach before its beams are given up."""
        return self.num_return if self.sample or self.exhaustive else self.beam_size // self.num_groups
