"""Captions as words, in the way in which coco-caption counts them.

The field scores captions on the tokens of Stanford's PTBTokenizer, lower-cased and without
punctuation (https://github.com/tylin/coco-caption). This is that tokenizer as a regular expression, without
Java. Of the 60,014 captions of Flickr8k (train and val) and COCO val2017, 60,010 come out word
for word the same, and of 145,614 of Flickr30k all but 7; most of these end in a single letter and a dot,
where the Java tokenizer lets the next caption of its file decide. `tests/test_tokenizer.py` measures it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

# The words of a text without spaces. What it does not match, quotes, dots, commas and dashes, is dropped.
# Where an alternative fails, what it has read is part of what a later one takes, and nothing is read again
# from its middle: the time is that of the length alone. ǀ stands for a combining mark.
_WORD = re.compile(
    r"""
    (?=[^\W_])(?:
        (?P<address>(?:https?://|www\.)[^\s"<>(){}]*[^\s"<>(){}.,!?])
      | can(?=not\b) | (?:gon|wan)(?=na\b) | got(?=ta\b) | (?:gim|lem)(?=me\b) | y'(?=all\b)
      | [^\W\d_]+?(?=n't\b) | n't\b                                # do n't
      | (?:dunkin|somethin|ol)'(?!\w)
      | (?:mr|mrs|ms|messrs|dr|st|jr|sr|prof|gen|sgt|lt|col|capt|gov|rev|ft|mt|ave|blvd|rd|dept|univ|corp
          |inc|ltd|co|cos|bros|vs|etc|jan|feb|mar|apr|aug|sept|oct|nov|dec|wed)\.(?!\w)
      | (?:[^\W\d_]\.)+(?:[^\W\d_](?!\w))?                         # U.S., T.V
      | \d+(?:[.:,٫]\d+)+ | \d+/\d+                                # 3.5, 12:30, 1/2
      | [dlo]'[^\W_]{2,}(?:-[^\W_]+)*                              # d'oeuvres, o'clock
      | [^\W\d_]*[aeiouy]'[aeiou][^\W\d_]*                         # ma'am
      | (?-i:[A-Z]+(?:[&+][A-Z]+)+)                                # AT&T
      | (?:                                                        # all other words: t-shirt, and/or
            [a-z0-9]++(?![^\W_])(?:[-/_][a-z0-9]++(?![^\W_]))*+(?:[-_][^\W_ǀ]++(?!ǀ))*+
          | [^\W_ǀ]++(?!ǀ)(?:[-_][^\W_ǀ]++(?!ǀ))*+
          | [^\W_]++
        )(?:\.[^\W\d_][^\W_]*)*
    )
  | '(?:(?:s|m|d|re|ve|ll)\b | n' | (?:n|em|cause|till?|[2-9]0s)\b | t(?=is\b|was\b))     # dog 's
  | @[a-z_]\w* | \#[^\W\d]\w* | [^\w\s.,:;!?'"`-] | _
  | (?:[.:,٫]\d+)+ | [!?]{2,} | -[lr][rcs]b-                       # the latter: tokens read again
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SPLIT = frozenset(("cannot", "gonna", "wanna", "gotta", "gimme", "lemme"))

# dogs.example.com, up to the last .com or the like; as one alternative of the above it would be looked for
# anew from every letter of a long line of letters, dots and dashes.
_DOMAIN = r"\.(?:com|net|org|edu|gov|co\.uk)\b"
_HAS_DOMAIN = re.compile(_DOMAIN, re.IGNORECASE)
_HOST = re.compile(rf"[a-z0-9.-]*(?P<domain>{_DOMAIN})|[a-z0-9.-]+", re.IGNORECASE)

_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'"}
_MARK = "ǀ"  # a letter without case


class _Characters(dict[int, str]):
    """How characters are read, for `str.translate`; signs that nobody sees separate words, as in Java."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = " " if _is_unseen(character) else character
        return self[code]


class _Shapes(dict[int, str]):
    """Characters as the regular expression takes them: combining marks, which are not \\w, as letters."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = _MARK if unicodedata.category(character) in ("Mn", "Mc") else character
        return self[code]


def _is_unseen(character: str) -> bool:
    """Controls, joiners, marks of direction, variants and frames; and signs beyond 16 bits, emoji mostly.

    Java's tokenizer drops all of these.
    """
    category = unicodedata.category(character)
    if category == "Cf":
        return character not in "\u0600\u0601\u0602\u0603\u06dd\u070f"  # which stand below Arabic numbers
    variant = "VARIATION SELECTOR" in unicodedata.name(character, "") if category == "Mn" else False
    beyond = character > "\uffff" and category[0] in "PS"
    return variant or beyond or category in ("Cc", "Co", "Me")


_CHARACTERS = _Characters(
    {
        ord(character): read
        for character, read in (
            {"’": "'", "‘": "`", "“": '"', "”": '"', "–": " ", "—": " ", "…": " ", "£": "#", "€": "$"}
            | {"½": "1/2", "¼": "1/4", "¾": "3/4", "¹": " ¹ ", "²": " ² ", "³": " ³ ", "\u00ad": ""}
            | dict.fromkeys(map(chr, range(0xD800, 0xE000)), "")  # half an emoji: no file can hold it
        ).items()
    }
)
_SHAPES = _Shapes()
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_JOINED = re.compile(r"(?<=[(\[{]) |(?<= -) | (?=[)\]}]|(?:[.,;:!?-](?: |$))|n't\b|'(?:s|m|d|re|ve|ll)\b)")


def tokenize(text: str) -> list[str]:
    """The words of a caption: lower case, no punctuation, contractions split (dog 's, do n't, can not).

    Words joined by spaces, or by `detokenize`, are read as the same words again; only AT&T and the like
    need their capitals to stay one word.
    """
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    words: list[str] = []
    for piece in text.translate(_CHARACTERS).split():
        if piece.isascii() and piece.isalpha() and piece.lower() not in _SPLIT:  # most words, at once
            words.append(piece)
        else:
            words += _words(piece)
    return [_BRACKETS.get(word, word) for word in map(str.lower, words)]


def _words(text: str) -> Iterable[str]:
    """The words of a text without spaces."""
    shape = text if text.isascii() else text.translate(_SHAPES)
    if _HAS_DOMAIN.search(shape):
        return _with_hosts(text, shape)
    return (text[match.start() : match.end()] for match in _WORD.finditer(shape))


def _with_hosts(text: str, shape: str) -> Iterator[str]:
    """The words of a text some of which are names of hosts."""
    hosts = [(m.start(), m.start("domain"), m.end()) for m in _HOST.finditer(shape) if m["domain"]]
    position = 0
    hosts.reverse()
    while match := _WORD.search(shape, position):
        start, position = match.span()
        while hosts and hosts[-1][1] <= start:
            hosts.pop()
        if hosts and hosts[-1][0] <= start and shape[start] not in ".-" and not match["address"]:
            position = hosts[-1][2]
        yield text[start:position]


def detokenize(words: Iterable[str]) -> str:
    """Words as a line for a reader: "the dog 's ball" becomes "the dog's ball", -lrb- a bracket.

    Marks that vocabularies of other projects have as words join theirs: "a t - shirt ." is "a t-shirt.".
    """
    signs = {name: sign for sign, name in _BRACKETS.items()}
    return _JOINED.sub("", " ".join(" ".join(signs.get(word, word) for word in words).split()))
