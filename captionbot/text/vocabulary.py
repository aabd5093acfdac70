"""Words <-> ids: a captioner's own words, or the subwords of GPT-2 and BERT, behind one face."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError
from captionbot.text.tokenizer import detokenize, tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, BOS, EOS, UNK = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
SUBWORDS = {"gpt2": "openai-community/gpt2", "bert": "google-bert/bert-base-uncased"}
"""Kinds of subwords, and the tokenizer of the Hugging Face Hub that each one is by default."""

_BERT_GAP = re.compile(r"^##| ([-'/.,:&]) (?=\w)")  # BERT splits words at punctuation: dog ' s, t - shirt
_UNSPOKEN = re.compile(r"<\|\w+\|>|\[(?:PAD|UNK|CLS|SEP|MASK|unused\d+)\]")


@dataclass(frozen=True)
class Vocabulary:
    """The words a captioner knows; the first four are padding, start, end and unknown."""

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(isinstance(token, str) for token in self.tokens):
            raise ValueError("a vocabulary is a list of words")
        if self.tokens[:4] != SPECIAL_TOKENS:
            raise ValueError(
                f"a vocabulary starts with {' '.join(SPECIAL_TOKENS)}, not {' '.join(self.tokens[:4])}"
            )
        if len(set(self.tokens)) != len(self.tokens):
            raise ValueError("a vocabulary names every token once")

    pad_id, bos_id, eos_id, unk_id = range(4)

    special_ids = (pad_id, bos_id, unk_id)
    """Ids that are no words of a caption, the end apart: a search never produces them."""

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

    def require(self, words: Iterable[str]) -> list[int]:
        """Ids of words that a person typed. CaptionBotError for an unknown one, with near ones."""
        words = list(words)
        for word in words:
            if word not in self.ids or self.ids[word] < len(SPECIAL_TOKENS):
                raise CaptionBotError(
                    f"This captioner does not know the word '{detokenize([word])}'; "
                    f"try {self._near(word)} instead."
                )
        return self.encode(words)

    def ban(self, words: Iterable[str]) -> list[int]:
        """Ids without which the words cannot be said. CaptionBotError where there are none."""
        return self.require(words)

    def _near(self, word: str) -> str:
        import difflib

        words = self.tokens[len(SPECIAL_TOKENS) :]
        near = difflib.get_close_matches(word, words, n=3, cutoff=0.6) or words[:3]
        return " or ".join(f"'{detokenize([word])}'" for word in near)


@dataclass(frozen=True)
class SubwordVocabulary(Vocabulary):
    """GPT-2's byte pairs (arXiv 1508.07909) or BERT's WordPiece (arXiv 1609.08144, section 4.1).

    The first four ids are those of every vocabulary; subword i of the tokenizer has the id i + 4.

    kind: a key of `SUBWORDS`.
    source: where `load` found the tokenizer.
    tokenizer: of the `tokenizers` package.
    """

    kind: str
    source: str
    tokenizer: Tokenizer = field(compare=False)

    @classmethod
    def load(cls, kind: str, source: str | Path = "") -> SubwordVocabulary:
        """The subwords of a kind of `SUBWORDS`.

        source: a `tokenizer.json`, a folder with one, with `vocab.json` and `merges.txt` (GPT-2) or with
            `vocab.txt` (BERT), or a name on the Hugging Face Hub; "" for the one in `SUBWORDS`.
        Raises CaptionBotError where there is no such kind or no such tokenizer.
        """
        if kind not in SUBWORDS:
            raise CaptionBotError(
                f"'{kind}' is no kind of subwords; choose one of {', '.join(SUBWORDS)}, or a list of words."
            )
        source = str(source) or SUBWORDS[kind]
        try:
            tokenizer = _tokenizer(kind, source)
        except Exception as error:  # the Rust code behind it raises bare Exceptions
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CaptionBotError(
                f"There is no {kind} tokenizer at '{source}' ({reason}); give its tokenizer.json, "
                "a folder with its files, or a name on the Hugging Face Hub and a network to fetch it."
            ) from None
        subwords = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        if [i for _, i in subwords] != list(range(len(subwords))):
            raise CaptionBotError(f"The tokenizer at '{source}' leaves out ids; give one without gaps.")
        return cls((*SPECIAL_TOKENS, *(subword for subword, _ in subwords)), kind, source, tokenizer)

    def save(self, path: Path) -> None:
        """Write the tokenizer as one file, which `load` reads."""
        self.tokenizer.save(str(path), pretty=False)

    @cached_property
    def special_ids(self) -> tuple[int, ...]:  # type: ignore[override]
        unspoken = (i for i, token in enumerate(self.tokens) if _UNSPOKEN.fullmatch(token))
        return self.pad_id, self.bos_id, self.unk_id, *unspoken

    def encode(self, words: Iterable[str]) -> list[int]:
        first, unknown = len(SPECIAL_TOKENS), self.tokenizer.token_to_id("[UNK]")
        ids = self.tokenizer.encode(detokenize(words), add_special_tokens=False).ids
        return [self.unk_id if i == unknown else i + first for i in ids]

    def decode(self, ids: Iterable[int]) -> list[str]:
        return tokenize(self.text(ids))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [self._text([i]) if i >= len(SPECIAL_TOKENS) else self.tokens[i] for i in ids]

    def text(self, ids: Iterable[int]) -> str:
        return self._text([i for i in ids if i >= len(SPECIAL_TOKENS)])

    def _text(self, ids: Sequence[int]) -> str:
        tokens = [i - len(SPECIAL_TOKENS) for i in ids]
        text = self.tokenizer.decode(tokens, skip_special_tokens=False).strip()
        return _BERT_GAP.sub(r"\1", text) if self.kind == "bert" else text

    def require(self, words: Iterable[str]) -> list[int]:
        words = list(words)
        for word in words:
            if self.unk_id in self.encode([word]):
                raise CaptionBotError(f"This captioner cannot spell '{word}'; give another word.")
        return self.encode(words)

    def ban(self, words: Iterable[str]) -> list[int]:
        banned = []
        for word in words:
            ids = self.require([word])
            if len(ids) > 1:
                pieces = ", ".join(f"'{piece}'" for piece in self.pieces(ids))
                raise CaptionBotError(
                    f"This captioner writes '{word}' in pieces ({pieces}), which other words need too; "
                    "ban only words that it writes in one piece."
                )
            banned += ids
        return banned

    @property
    def spec(self) -> Any:
        return {"kind": self.kind, "source": self.source}


def _tokenizer(kind: str, source: str) -> Tokenizer:
    """The tokenizer of a file, a folder or the Hub, set up to read and write captions."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    path = Path(source)
    if path.suffix == ".json" or (path / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(path if path.suffix == ".json" else path / "tokenizer.json"))
    elif not path.is_dir():
        tokenizer = Tokenizer.from_pretrained(source)
    elif kind == "gpt2":
        tokenizer = Tokenizer(models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt")))
    else:
        tokenizer = Tokenizer(models.WordPiece.from_file(str(path / "vocab.txt"), unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if kind == "gpt2":  # a caption's first word is the same subword as anywhere else: " a", not "a"
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def load_vocabulary(spec: Any) -> Vocabulary:
    """The vocabulary that a card describes.

    spec: the words in the order of their ids, or {"kind": a key of `SUBWORDS`, "source": as in
        `SubwordVocabulary.load`}.
    """
    if isinstance(spec, Mapping):
        return SubwordVocabulary.load(spec["kind"], spec.get("source", ""))
    return Vocabulary(tuple(spec))
