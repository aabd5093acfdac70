"""The subwords of GPT-2 and BERT, read from the files of their tokenizers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from captionbot.errors import shortened
from captionbot.extras import require
from captionbot.files import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")
UNKNOWN = "[UNK]"
"""BERT's own token for what it cannot spell."""
UNSPOKEN = r"<\|\w+\|>|\[(?:PAD|UNK|CLS|SEP|MASK|unused\d+)\]"
"""A pattern of tokens that are no part of a sentence."""

_MOST_SUBWORDS, _LONGEST_SUBWORD = 2**19, 1000  # GPT-2 has 50,257, of at most 128 characters
_BERT_FLAGS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")


@dataclass(frozen=True)
class Subwords:
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
        if UNKNOWN not in self.ids:
            raise ValueError(f"it has no {UNKNOWN}")
        tokenizer = Tokenizer(models.WordPiece(self.ids, unk_token=UNKNOWN))
        if self.normalizer is not None:
            tokenizer.normalizer = normalizers.BertNormalizer(**self.normalizer)  # type: ignore[arg-type]
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(cleanup=False)
        return tokenizer


def subwords_of_folder(kind: str, folder: Path) -> Subwords:
    """vocab.json and merges.txt of GPT-2, or vocab.txt of BERT."""
    if kind == "bert":
        lines = _lines(folder / "vocab.txt")
        return Subwords({line.rstrip(): i for i, line in enumerate(lines)}, normalizer={"lowercase": True})
    merges = [line for line in _lines(folder / "merges.txt") if line and not line.startswith("#version")]
    return Subwords(_as(dict, read_json(folder / "vocab.json")), [_pair(line) for line in merges])


def subwords_of_file(kind: str, path: Path) -> Subwords:
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
        return Subwords(ids, [_pair(merge) for merge in _as(list, model["merges"])], added=added)
    for part in ("normalizer", "pre_tokenizer"):
        _known(values.get(part), part)
    normalizer = values.get("normalizer")
    flags = (
        None if normalizer is None else {flag: normalizer[flag] for flag in _BERT_FLAGS if flag in normalizer}
    )
    if not all(value is None or isinstance(value, bool) for value in (flags or {}).values()):
        raise ValueError("its normalizer's flags must be true or false")
    return Subwords(ids, normalizer=flags, added=added)


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
