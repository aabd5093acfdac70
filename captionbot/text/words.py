"""Words <-> ids: the words that a captioner knows, each with an id of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.text.naming import Naming, naming
from captionbot.text.tokenizer import detokenize, tokenize

PAD, BOS, EOS, UNK = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")


@dataclass(frozen=True)
class Vocabulary:
    """The words a captioner knows; the first four are padding, start, end and unknown."""

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(isinstance(token, str) for token in self.tokens):
            raise ValueError("a vocabulary is a list of words")
        if self.tokens[:4] != SPECIAL_TOKENS:
            begun = shortened(" ".join(self.tokens[:4]))
            raise ValueError(f"a vocabulary starts with {' '.join(SPECIAL_TOKENS)}, not {begun}")
        if len(set(self.tokens)) != len(self.tokens):
            raise ValueError("a vocabulary names every token once")

    pad_id, bos_id, eos_id, unk_id = range(4)

    special_ids = (pad_id, bos_id, unk_id)
    """Ids that are no words of a caption, the end apart: a search never produces them."""

    continuing = ()
    """Ids that go on with the word before."""

    @cached_property
    def naming(self) -> Naming | None:
        """Which ids are nouns and the like; None where words have several ids."""
        return naming(self.tokens)

    in_pieces = False
    """Whether a word may have several ids, so that words and ids are counted apart."""

    @property
    def spec(self) -> Any:
        """What a card stores: `load_vocabulary(spec)` gives the vocabulary again."""
        return self.tokens

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

    def encode(self, words: Iterable[str]) -> list[int]:
        """Ids of words; what is not in the vocabulary becomes unk_id."""
        return [self.ids.get(word, self.unk_id) for word in words]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words, as `captionbot.text.tokenizer.tokenize` counts them."""
        return self.pieces(ids)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """One text an id, for a page that shows each step of a caption."""
        return [self.tokens[i] for i in ids]

    def text(self, ids: Iterable[int]) -> str:
        """The line that a reader is shown."""
        return detokenize(self.pieces(ids))

    def words(self, ids: Sequence[int]) -> list[str]:
        """Whole words, as a page shows them; joined by `join` they are the text."""
        return self.pieces(ids)

    def groups(self, ids: Sequence[int]) -> tuple[int, ...]:
        """How many of the ids each of `words` has."""
        return (1,) * len(ids)

    def split(self, text: str) -> list[str]:
        """The words of a text that a person typed."""
        return tokenize(text)

    def join(self, words: Iterable[str]) -> str:
        """The text of `words`."""
        return detokenize(words)

    def ids_of(self, text: str) -> list[int]:
        """Ids of a text that a person typed, the beginning of a caption; CaptionBotError as of `require`."""
        return self.require(self.split(text))

    def banned(self, texts: Iterable[str]) -> list[int | tuple[int, ...]]:
        """Ids, and ids in a row, without which the words of some texts cannot be said.

        A row may begin with bos_id: it is banned as the first words alone.
        """
        return [*self.ban(word for text in texts for word in self.split(text))]

    def require(self, words: Iterable[str]) -> list[int]:
        """Ids of words that a person typed. CaptionBotError for an unknown one, with near ones."""
        words = list(words)
        for word in words:
            if word not in self.ids or self.ids[word] < len(SPECIAL_TOKENS):
                raise CaptionBotError(
                    f"This captioner does not know the word '{shortened(detokenize([word]), 50)}'; "
                    f"try {self._near(word)} instead."
                )
        return self.encode(words)

    def ban(self, words: Iterable[str]) -> list[int]:
        """Ids without which the words cannot be said. CaptionBotError where there are none."""
        return self.require(words)

    def _near(self, word: str) -> str:
        import difflib

        words = self.tokens[len(SPECIAL_TOKENS) :]
        near = difflib.get_close_matches(word[:50], words, n=3, cutoff=0.6) or words[:3]
        return " or ".join(f"'{shortened(detokenize([word]), 50)}'" for word in near)
