"""How to search for a caption: the options that people know, checked where they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.fields import about, abouts

BEGINNINGS = ("a photo of", "a close-up of", "a painting of", "a drawing of")
"""Presets of what a caption begins with."""
MAX_TEXT = 4_000  # characters of any text: beginnings of captions, words to avoid, addresses, names


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

    Lengths are in words, the end not counted.

    num_return: a beam search may find a few more, and a tiny vocabulary may hold fewer. When sampling, the
        number of samples; beam_size plays no part then.
    diversity_penalty: for every beam of an earlier group that takes the same word in the same step.
    sample: the words are drawn from the model's distribution, sharpened by a temperature below 1, and cut to
        the top_k likeliest and to the likeliest that hold top_p of the probability.
    exhaustive: the search otherwise ends once no beam beats the finished ones at its present length.
    seed: the same seed and batch give the same samples.
    """

    beam_size: int = about(
        "hypotheses kept at each step; 1 is greedy, more finds likelier captions and takes longer", 5,
        low=1, high=100, label="Beam size", widget=(1, 10, 1),
    )  # fmt: skip
    max_length: int = about(
        "words at most", 20, low=1, high=200, label="Words at most", widget=(1, 40, 1)
    )  # fmt: skip
    min_length: int = about(
        "words at least", 1, low=1, high=200, label="Words at least", widget=(1, 40, 1)
    )  # fmt: skip
    length_penalty: float = about(
        "0 ranks by probability alone, which favours short captions; the more, the longer they are", 0.7,
        low=-10, high=10, label="Length penalty", widget=(0, 2, 0.1),
    )  # fmt: skip
    no_repeat_ngram_size: int = about(
        "no run of so many words is said twice; 0 allows it", 0,
        low=0, high=100, label="No-repeat n-gram size", widget=(0, 5, 1),
    )  # fmt: skip
    repeat_nouns: bool = about(
        "say a noun again without a word that tells the second from the first (“a bench on a bench”)", True,
        label="Repeated nouns",
    )  # fmt: skip
    num_return: int = about(
        "captions of a photo, best first; at most the beam size", 1,
        low=1, high=100, label="Captions", widget=(1, 10, 1),
    )  # fmt: skip
    num_groups: int = about(
        "groups that the beams are split into, for captions that differ (with a diversity penalty)", 1,
        low=1, high=100, label="Groups",
    )  # fmt: skip
    diversity_penalty: float = about(
        "what a group pays for a word that another group just took", 0.0,
        low=0, high=1000, label="Diversity penalty",
    )  # fmt: skip
    sample: bool = about(
        "draw words by chance instead of searching for the likeliest", False, label="Sampling"
    )
    temperature: float = about(
        "lower is safer, higher is bolder", 1.0,
        low=0.01, high=100, needs="sample", label="Temperature", widget=(0.1, 2, 0.01),
    )  # fmt: skip
    top_k: int = about(
        "draw from so many likeliest words; 0 is all", 0,
        low=0, high=1_000_000, needs="sample", label="Top k", widget=(0, 100, 1),
    )  # fmt: skip
    top_p: float = about(
        "draw from the likeliest words that hold this much probability", 1.0,
        low=0.01, high=1, needs="sample", label="Top p", widget=(0.05, 1, 0.01),
    )  # fmt: skip
    exhaustive: bool = about("go on until no beam could still win, however long it grew", False)
    seed: int | None = about(
        "the same seed draws the same captions", None,
        low=0, high=2**63 - 1, needs="sample", label="Seed", widget=(0, 99_999, 1),
    )  # fmt: skip
    evidence: bool = about(
        "rerank finished captions by what the photo as a whole says for their words", True, label="Reranking"
    )

    def __post_init__(self) -> None:
        for name in ABOUT:
            self._check(name, getattr(self, name))
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

    def _check(self, name: str, value: Any) -> None:
        """CaptionBotError for a value of another type or beyond the field's range."""
        said, usual = ABOUT[name], getattr(SearchOptions, name)
        given = _shown(value)
        if isinstance(usual, bool):
            if not isinstance(value, bool):
                raise CaptionBotError(f"{name} is {given}; give True or False.")
        elif value is not None or usual is not None:
            kind, noun = (Real, "a number") if isinstance(usual, float) else (Integral, "a whole number")
            if not isinstance(value, kind) or not said.low <= value <= said.high:  # type: ignore[operator]
                raise CaptionBotError(f"{name} is {given}; give {noun} from {said.low} to {said.high}.")

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


ABOUT = abouts(SearchOptions)
"""What each option is for: its help and range, and its label and widget on a page."""
