"""A captioner's vocabulary: its own words, the subwords of GPT-2 and BERT, or a published captioner's pieces,
behind one face."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.extras import require
from captionbot.text.subwords import UNKNOWN, UNSPOKEN, Subwords, subwords_of_file, subwords_of_folder
from captionbot.text.tokenizer import detokenize, tokenize
from captionbot.text.words import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "SPECIAL_TOKENS",
    "SUBWORDS",
    "UNK",
    "SubwordVocabulary",
    "Vocabulary",
    "load_vocabulary",
]

SUBWORDS = {"gpt2": "openai-community/gpt2", "bert": "google-bert/bert-base-uncased"}
"""Kinds of subwords, and the tokenizer of the Hugging Face Hub that each one is by default."""

_BERT_GAP = re.compile(r"^##| ([-'/.,:&]) (?=\w)")  # BERT splits words at punctuation: dog ' s, t - shirt
_UNSPOKEN = re.compile(UNSPOKEN)


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

    naming = None  # subwords name nothing

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
        unspoken = (i for i, token in enumerate(self.tokens) if _UNSPOKEN.fullmatch(token))
        return self.pad_id, self.bos_id, self.unk_id, *unspoken

    def encode(self, words: Iterable[str]) -> list[int]:
        first, unknown = len(SPECIAL_TOKENS), self.tokenizer.token_to_id(UNKNOWN)
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


def _subwords(kind: str, source: str) -> Subwords:
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


def load_vocabulary(spec: Any) -> Vocabulary:
    """The vocabulary that a card describes.

    spec: the words in the order of their ids, or {"kind": a key of `SUBWORDS`, "source": as in
        `SubwordVocabulary.load`}, or {"kind": "hub", ...} as `pieces.HubVocabulary.load` takes it.
    """
    if isinstance(spec, Mapping):
        if spec.get("kind") == "hub":
            from captionbot.text.pieces import HubVocabulary  # which imports numpy

            return HubVocabulary.load(**{key: value for key, value in spec.items() if key != "kind"})
        return SubwordVocabulary.load(spec["kind"], spec.get("source", ""))
    return Vocabulary(tuple(spec))
