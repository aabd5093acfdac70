"""Whole words of captioners whose vocabulary writes some of them in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captionbot.errors import CaptionBotError, shortened
from captionbot.text.subwords import UNSPOKEN, subwords_of_file, subwords_of_folder
from captionbot.text.words import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STYLES = ("bert", "gpt2")
_UNSPOKEN = re.compile(rf"{UNSPOKEN}|</?(?:s|pad|unk|mask)>|<\w+>")
_GAPS = re.compile(  # BERT splits words at punctuation: dog ' s, t - shirt, 3. 5, red, white
    r" (['’]) (?=(?:s|t|d|m|re|ve|ll)\b)| ([-/]) (?=\w)|(?<=\d) ([.,:]) (?=\d)| (?=[.,:;!?%])"
)
_UNFINISHED = "\ufffd"  # of bytes that are no whole character yet


def of_words(values: np.ndarray, pieces: Sequence[int], *, mean: bool = False) -> np.ndarray:
    """(..., T) numbers of ids -> (..., W) of whole words: the sums over their pieces, or the means.

    pieces: (W,) how many of the T ids each word has, as of `Caption.pieces`.
    """
    if len(pieces) == values.shape[-1]:  # an id a word: the very numbers
        return values
    starts = np.cumsum([0, *pieces[:-1]])
    sums: np.ndarray = np.add.reduceat(values, starts, axis=-1)
    return sums / np.array(pieces, sums.dtype) if mean else sums


@dataclass(frozen=True, kw_only=True)
class HubVocabulary(Vocabulary):
    """The pieces of a published captioner, by its own ids; captions are written and read in whole words.

    A word is what stands between spaces of the text, so that commas and capitals survive.

    source: the tokenizer.json. style: one of STYLES.
    bos_id: the last id before the words, eos_id: their end; they may be the same.
    special_ids: what is no part of a sentence, ids without a token among them.
    space_first: whether the first word is written with a space before it, as of GPT-2's style the others are.
    """

    source: str
    style: str
    bos_id: int
    eos_id: int
    special_ids: tuple[int, ...]  # type: ignore[assignment]
    space_first: bool
    tokenizer: Tokenizer = field(compare=False)

    in_pieces = True
    naming = None  # pieces of words name nothing

    def __post_init__(self) -> None:
        """The ids are the model's own: nothing is asked of the first four."""

    @classmethod
    def load(
        cls, source: str | Path, style: str, size: int, bos: int, eos: int, space_first: bool = False
    ) -> HubVocabulary:
        """source: a tokenizer.json, or a folder with one or with the files of which one can be made.

        size: ids that the model scores, of which its tokenizer may lack the last.
        Raises CaptionBotError where there is no such tokenizer.
        """
        try:
            if style not in STYLES:
                raise ValueError(f"'{shortened(style, 40)}' is no style of {', '.join(STYLES)}")
            path = Path(source)
            if path.is_dir() and (path / "tokenizer.json").is_file():
                path /= "tokenizer.json"
            found = (subwords_of_folder if path.is_dir() else subwords_of_file)(style, path)
            tokenizer = found.tokenizer(style)
            if style == "gpt2":
                from tokenizers import pre_tokenizers

                tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokens = sorted(found.ids, key=found.ids.__getitem__)
            if not 0 <= eos < min(size, len(tokens)) or not 0 <= bos < size:
                raise ValueError("its start or its end is none of its ids")
        except CaptionBotError:
            raise
        except Exception as error:  # the Rust code behind it raises any
            reason = shortened((str(error) or type(error).__name__).splitlines()[0]).rstrip(".")
            raise CaptionBotError(
                f"There is no tokenizer of this captioner at '{shortened(source)}' ({reason}); "
                "fetch its tokenizer.json again."
            ) from None
        special = {i for i in found.added if i < size}
        special |= {i for i, token in enumerate(tokens[:size]) if _UNSPOKEN.fullmatch(token)}
        special |= set(range(len(tokens), size))
        tokens = [*tokens[:size], *(f"<{i}>" for i in range(len(tokens), size))]
        return cls(
            tuple(tokens),
            source=str(source),
            style=style,
            bos_id=bos,
            eos_id=eos,
            special_ids=tuple(sorted(special - {eos})),
            space_first=space_first,
            tokenizer=tokenizer,
        )

    @property
    def spec(self) -> Any:
        return {
            "kind": "hub",
            "source": self.source,
            "style": self.style,
            "size": len(self),
            "bos": self.bos_id,
            "eos": self.eos_id,
            "space_first": self.space_first,
        }

    def text(self, ids: Iterable[int]) -> str:
        known = self.tokenizer.get_vocab_size()
        text = self.tokenizer.decode([i for i in ids if i < known], skip_special_tokens=False)
        text = " ".join(text.split())  # bytes of other spaces too, so that words are what stands between them
        return _GAPS.sub(r"\1\2\3", text.removeprefix("##")) if self.style == "bert" else text

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """One text an id; what goes on with the word before begins with dots."""
        return [f"…{self.text([i])}" if self._goes_on(i) else self.text([i]) for i in ids]

    @cached_property
    def continuing(self) -> Sequence[int]:  # type: ignore[override]
        """Marks may follow any word, letters and digits without a space go on with it."""
        spoken = set(range(len(self))) - {*self.special_ids, self.eos_id}
        return tuple(i for i in sorted(spoken) if self._goes_on(i) and self.text([i])[:1].isalnum())

    def _goes_on(self, token_id: int) -> bool:
        token = self.tokens[token_id]
        return token.startswith("##") if self.style == "bert" else not token.startswith("Ġ")

    def words(self, ids: Sequence[int]) -> list[str]:
        return self._parsed(ids)[0]

    def groups(self, ids: Sequence[int]) -> tuple[int, ...]:
        return tuple(self._parsed(ids)[1])

    def decode(self, ids: Iterable[int]) -> list[str]:
        return self.split(self.text(ids))

    def _parsed(self, ids: Sequence[int]) -> tuple[list[str], list[int]]:
        """The words of ids, and how many ids each has: by their letters, spaces apart."""
        ids = list(ids)
        if not ids:
            return [], []
        found = self.text(ids).split() or [""]
        ends = np.cumsum([len(word) for word in found])
        counts = [0] * len(found)
        begun = 0  # letters before the piece
        for k in range(len(ids)):
            counts[min(int(np.searchsorted(ends, begun, side="right")), len(found) - 1)] += 1
            begun = len("".join(self.text(ids[: k + 1]).split()).rstrip(_UNFINISHED))
        words: list[str] = []
        pieces: list[int] = []
        for word, count in zip(found, counts, strict=True):
            if count or not words:
                words.append(word)
                pieces.append(count)
            else:  # an id that has two words
                words[-1] += f" {word}"
        if not pieces[0]:  # the first letters came with the second word's id
            words[:2], pieces[:2] = [" ".join(words[:2])], [sum(pieces[:2])]
        return words, pieces

    def split(self, text: str) -> list[str]:
        return text.split()

    def join(self, words: Iterable[str]) -> str:
        return " ".join(words)

    def encode(self, words: Iterable[str]) -> list[int]:
        return self._ids(" ".join(words), self.space_first)

    def require(self, words: Iterable[str]) -> list[int]:
        words = list(words)
        for word in words:
            self._spelled(word, self.space_first)
        return self.encode(words)

    def banned(self, texts: Iterable[str]) -> list[int | tuple[int, ...]]:
        rows: dict[tuple[int, ...], None] = {}
        for word in (word for text in texts for word in self.split(text)):
            for written in dict.fromkeys((word, word[:1].upper() + word[1:])):
                rows[tuple(self._spelled(written, space=True))] = None
                if self.style == "gpt2" and not self.space_first:
                    rows[(self.bos_id, *self._spelled(written, space=False))] = None
        return [row[0] if len(row) == 1 else row for row in rows]

    def question(self, text: str) -> list[int]:
        """Ids of a question as BART reads one, between its start and its end."""
        return [self.tokens.index("<s>"), *self._ids(text, space=False), self.tokens.index("</s>")]

    def _ids(self, text: str, space: bool) -> list[int]:
        """space: whether one stands before the text, of GPT-2's style."""
        text = f" {text}" if text and space and self.style == "gpt2" else text
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _spelled(self, word: str, space: bool) -> list[int]:
        ids = self._ids(word, space)
        if not ids or any(i in self.special_ids or i == self.eos_id for i in ids):
            raise CaptionBotError(f"This captioner cannot spell '{shortened(word, 50)}'; give another word.")
        return ids
