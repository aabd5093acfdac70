"""Words <-> ids: a captioner's own words, or the subwords of GPT-2 and BERT, behind one face."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from captionbot.errors import CaptionBotError, shortened
from captionbot.extras import require
from captionbot.files import read_json
from captionbot.text.tokenizer import detokenize, tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")
PAD, BOS, EOS, UNK = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
SUBWORDS = {"gpt2": "openai-community/gpt2", "bert": "google-bert/bert-base-uncased"}
"""Kinds of subwords, and the tokenizer of the Hugging Face Hub that each one is by default."""

_MOST_SUBWORDS, _LONGEST_SUBWORD = 2**19, 1000  # GPT-2 has 50,257, of at most 128 characters
_BERT_UNKNOWN = "[UNK]"
_BERT_FLAGS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
_BERT_GAP = re.compile(r"^##| ([-'/.,:&]) (?=\w)")  # BERT splits words at punctuation: dog ' s, t - shirt
UNSPOKEN = re.compile(r"<\|\w+\|>|\[(?:PAD|UNK|CLS|SEP|MASK|unused\d+)\]")


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
                f"'{shortened(kind)}' is no kind of subwords; choose one of {', '.join(SUBWORDS)}, "
                "or a list of words."
            )
        source = str(source) or SUBWORDS[kind]
        try:
            found = _subwords(kind, source)
            tokenizer = found.tokenizer(kind)
            return cls(
                (*SPECIAL_TOKENS, *sorted(found.ids, key=found.ids.__getitem__)), kind, source, tokenizer
            )
        except Exception as error:  # the Hub and the Rust code behind it raise any
            reason = shortened((str(error) or type(error).__name__).splitlines()[0]).rstrip(".")
            raise CaptionBotError(
                f"There is no {kind} tokenizer at '{shortened(source)}' ({reason}); give its tokenizer.json, "
                "a folder with its files, or a name on the Hugging Face Hub and a network to fetch it."
            ) from None

    def save(self, path: Path) -> None:
        """Write the tokenizer as one file, which `load` reads."""
        self.tokenizer.save(str(path), pretty=False)

    @cached_property
    def special_ids(self) -> tuple[int, ...]:  # type: ignore[override]
        unspoken = (i for i, token in enumerate(self.tokens) if UNSPOKEN.fullmatch(token))
        return self.pad_id, self.bos_id, self.unk_id, *unspoken

    def encode(self, words: Iterable[str]) -> list[int]:
        first, unknown = len(SPECIAL_TOKENS), self.tokenizer.token_to_id(_BERT_UNKNOWN)
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
            ids = self.encode([word])
            if self.unk_id in ids or not ids:
                raise CaptionBotError(
                    f"This captioner cannot spell '{shortened(word, 50)}'; give another word."
                )
        return self.encode(words)

    def ban(self, words: Iterable[str]) -> list[int]:
        banned = []
        for word in words:
            ids = self.require([word])
            if len(ids) > 1:
                pieces = shortened(", ".join(f"'{piece}'" for piece in self.pieces(ids)))
                raise CaptionBotError(
                    f"This captioner writes '{shortened(word, 50)}' in pieces ({pieces}), which other words "
                    "need too; ban only words that it writes in one piece."
                )
            banned += ids
        return banned

    @property
    def spec(self) -> Any:
        return {"kind": self.kind, "source": self.source}


@dataclass(frozen=True)
class _Subwords:
    """All that is read of a tokenizer's files, which may be a stranger's: the rest is never believed.

    A `tokenizer.json` can ask its library for lengths, regular expressions and templates that end the whole
    process, so that none of them gets there: a new tokenizer is made of this.

    ids: of each subword; merges: of byte pairs, in their order; normalizer: flags of BERT's.
    added: ids of tokens that stand apart from the model's own, as those that begin and end a text.
    """

    ids: dict[str, int]
    merges: list[tuple[str, str]] = field(default_factory=list)
    normalizer: dict[str, bool | None] | None = None
    added: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """ValueError where it could not be a tokenizer's."""
        if len(self.ids) > _MOST_SUBWORDS or len(self.merges) > _MOST_SUBWORDS:
            raise ValueError(f"it has more than {_MOST_SUBWORDS} subwords")
        parts = [*self.ids, *(part for pair in self.merges for part in pair)]
        if not all(isinstance(part, str) and len(part) <= _LONGEST_SUBWORD for part in parts):
            raise ValueError(f"its subwords must be texts of at most {_LONGEST_SUBWORD} characters")
        if not all(type(i) is int for i in self.ids.values()):
            raise ValueError("its ids must be whole numbers")
        if sorted(self.ids.values()) != list(range(len(self.ids))):
            raise ValueError("it leaves out ids, or has one twice")

    def tokenizer(self, kind: str) -> Tokenizer:
        """Set up to read and write captions."""
        require("tokenizers", "transformers", "A captioner with subwords")
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

        if kind == "gpt2":  # a caption's first word is the same subword as anywhere else: " a", not "a"
            tokenizer = Tokenizer(models.BPE(self.ids, self.merges))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            tokenizer.decoder = decoders.ByteLevel()
            return tokenizer
        if _BERT_UNKNOWN not in self.ids:
            raise ValueError(f"it has no {_BERT_UNKNOWN}")
        tokenizer = Tokenizer(models.WordPiece(self.ids, unk_token=_BERT_UNKNOWN))
        if self.normalizer is not None:
            tokenizer.normalizer = normalizers.BertNormalizer(**self.normalizer)  # type: ignore[arg-type]
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(cleanup=False)
        return tokenizer


def _subwords(kind: str, source: str) -> _Subwords:
    """What a file, a folder or the Hub has; OSError, ValueError or of the Hub's for what is no tokenizer."""
    path = Path(source)
    if path.is_dir() and not (path / "tokenizer.json").is_file():
        return subwords_of_folder(kind, path)
    if path.is_dir():
        path = path / "tokenizer.json"
    elif path.suffix != ".json":
        require("huggingface_hub", "transformers", "A tokenizer of the Hugging Face Hub")
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(source, "tokenizer.json"))
    return subwords_of_file(kind, path)


def subwords_of_folder(kind: str, folder: Path) -> _Subwords:
    """vocab.json and merges.txt of GPT-2, or vocab.txt of BERT."""
    if kind == "bert":
        lines = _lines(folder / "vocab.txt")
        return _Subwords({line.rstrip(): i for i, line in enumerate(lines)}, normalizer={"lowercase": True})
    merges = [line for line in _lines(folder / "merges.txt") if line and not line.startswith("#version")]
    return _Subwords(_as(dict, read_json(folder / "vocab.json")), [_pair(line) for line in merges])


def subwords_of_file(kind: str, path: Path) -> _Subwords:
    """A `tokenizer.json`."""
    values = _as(dict, read_json(path))
    model = _as(dict, values["model"])
    expected = {"gpt2": "BPE", "bert": "WordPiece"}[kind]
    if (found := model.get("type", expected)) != expected:
        raise ValueError(f"its model is {shortened(found, 40)}, where {kind} has {expected}")
    ids = dict(_as(dict, model["vocab"]))
    listed = [_as(dict, token) for token in _as(list, values.get("added_tokens") or [])]
    for token in listed:  # most of them stand in the vocabulary too
        ids.setdefault(_as(str, token["content"]), token["id"])
    added = tuple(ids[token["content"]] for token in listed)
    if kind == "gpt2":
        return _Subwords(ids, [_pair(merge) for merge in _as(list, model["merges"])], added=added)
    for part in ("normalizer", "pre_tokenizer"):
        _known(values.get(part), part)
    normalizer = values.get("normalizer")
    flags = (
        None if normalizer is None else {flag: normalizer[flag] for flag in _BERT_FLAGS if flag in normalizer}
    )
    if not all(value is None or isinstance(value, bool) for value in (flags or {}).values()):
        raise ValueError("its normalizer's flags must be true or false")
    return _Subwords(ids, normalizer=flags, added=added)


def _known(part: Any, name: str) -> None:
    """ValueError for a part of BERT's tokenizer that is another than BERT's."""
    expected = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}[name]
    if part is not None and (found := _as(dict, part).get("type")) != expected:
        raise ValueError(f"its {name} is {shortened(found, 40)}, where bert has {expected}")


def _pair(merge: Any) -> tuple[str, str]:
    """A merge, which is written as one text or as two."""
    first, second = merge.split(" ") if isinstance(merge, str) else _as(list, merge)
    return _as(str, first), _as(str, second)


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").split("\n")  # other ends of lines can be subwords
    return [line.removesuffix("\r") for line in lines[: None if lines[-1] else -1]]


def _as(kind: type[T], value: Any) -> T:
    """The value itself, ValueError where it is of another kind."""
    if not isinstance(value, kind):
        raise ValueError(f"it has {shortened(value, 40)} where a {kind.__name__} belongs")
    return value


def load_vocabulary(spec: Any) -> Vocabulary:
    """The vocabulary that a card describes.

    spec: the words in the order of their ids, or {"kind": a key of `SUBWORDS`, "source": as in
        `SubwordVocabulary.load`}, or {"kind": "hub", ...} as `pieces.HubVocabulary.load` takes it.
    """
    if isinstance(spec, Mapping):
        if spec.get("kind") == "hub":
            from captionbot.text.pieces import HubVocabulary  # which is made of this module's parts

            return HubVocabulary.load(**{key: value for key, value in spec.items() if key != "kind"})
        return SubwordVocabulary.load(spec["kind"], spec.get("source", ""))
    return Vocabulary(tuple(spec))
