"""Tokens <-> ids of a captioner's own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from captionbot.errors import CaptionBotError

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"


@dataclass(frozen=True)
class Vocabulary:
    """The words a captioner knows; the first four are padding, start, end and unknown."""

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.tokens[:4] != (PAD, BOS, EOS, UNK):
            raise ValueError(f"a vocabulary starts with {PAD} {BOS} {EOS} {UNK}, not {self.tokens[:4]}")
        if len(set(self.tokens)) != len(self.tokens):
            raise ValueError("a vocabulary names every token once")

    pad_id, bos_id, eos_id, unk_id = range(4)
    special_ids = (pad_id, bos_id, unk_id)
    """Ids that are no words of a caption, the end apart: a search never produces them."""

    @classmethod
    def build(
        cls, captions: Iterable[Sequence[str]], min_count: int = 1, max_size: int | None = None
    ) -> Vocabulary:
        """The words that captions use at least min_count times, most frequent first, max_size at most."""
        counts = Counter(token for caption in captions for token in caption)
        words = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        return cls((PAD, BOS, EOS, UNK, *words[:max_size]))

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self.ids

    @cached_property
    def ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Ids of tokens; what is not in the vocabulary becomes unk_id."""
        return [self.ids.get(token, self.unk_id) for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        return [self.tokens[i] for i in ids]

    def require(self, tokens: Iterable[str]) -> list[int]:
        """Ids of words that a person typed. CaptionBotError for an unknown one, with near ones."""
        tokens = list(tokens)
        for token in tokens:
            if token not in self.ids or self.ids[token] < 4:
                raise CaptionBotError(
                    f"This captioner does not know the word '{token}'; try {self._near(token)} instead."
                )
        return self.encode(tokens)

    def _near(self, token: str) -> str:
        import difflib

        near = difflib.get_close_matches(token, self.tokens[4:], n=3, cutoff=0.6) or self.tokens[4:7]
        return " or ".join(f"'{word}'" for word in near)
