"""Captions as words, in the way in which coco-caption counts them.

The field scores captions on the tokens of Stanford's PTBTokenizer, lower-cased and without
punctuation (https://github.com/tylin/coco-caption). This is that tokenizer as one regular expression,
without Java. Of the 60,014 captions of Flickr8k (train and val) and COCO val2017, 60,010 come out word
for word the same, and of 145,614 of Flickr30k all but 7; most of these end in a single letter and a dot,
where the Java tokenizer lets the next caption of its file decide. `tests/test_tokenizer.py` measures it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# What the regular expression does not match, quotes, dots, commas and dashes, is dropped.
_WORD = re.compile(
    r"""
    (?:https?://|www\.)[^\s"<>(){}]*[^\s"<>(){}.,!?]             # addresses
  | [a-z0-9][a-z0-9.-]*\.(?:com|net|org|edu|gov|co\.uk)\b
  | [@\#][a-z_]\w*
  | can(?=not\b) | (?:gon|wan)(?=na\b) | got(?=ta\b) | (?:gim|lem)(?=me\b) | y'(?=all\b)
  | [^\W\d_]+?(?=n't\b) | n't\b | '(?:s|m|d|re|ve|ll)\b          # do n't, dog 's
  | 'n' | '(?:n|em|cause|till?|[2-9]0s)\b | 't(?=is\b|was\b)
  | (?:dunkin|somethin|ol)'(?!\w)
  | (?:mr|mrs|ms|messrs|dr|st|jr|sr|prof|gen|sgt|lt|col|capt|gov|rev|ft|mt|ave|blvd|rd|dept|univ|corp|inc
      |ltd|co|cos|bros|vs|etc|jan|feb|mar|apr|aug|sept|oct|nov|dec|wed)\.(?!\w)
  | (?:[^\W\d_]\.)+(?:[^\W\d_](?!\w))?                           # U.S., T.V
  | \d*(?:[.:,]\d+)+ | \d+/\d+                                   # 3.5, 12:30, 1/2
  | [dlo]'[^\W_]{2,}(?:-[^\W_]+)*                                # d'oeuvres, o'clock
  | [^\W\d_]*[aeiouy]'[aeiou][^\W\d_]*                           # ma'am
  | (?-i:[A-Z]+(?:[&+][A-Z]+)+)                                  # AT&T
  | [^\W_]+(?:[-/_][^\W_]+)*(?:\.[^\W\d_][^\W_]*)*               # all other words: t-shirt, and/or
  | [!?]{2,} | -[lr][rcs]b-                                      # the latter: tokens read again
  | [^\w\s.,:;!?'"`-] | _
    """,
    re.VERBOSE | re.IGNORECASE,
)

_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'"}
_CHARACTERS = str.maketrans(
    {"’": "'", "‘": "`", "“": '"', "”": '"', "–": " ", "—": " ", "…": " ", "£": "#", "€": "$"}
    | {"½": "1/2", "¼": "1/4", "¾": "3/4", "\u00ad": ""}
    | dict.fromkeys(map(chr, range(0xD800, 0xE000)), "")  # half an emoji that JSON cut: no file can hold it
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_JOINED = re.compile(r"(?<=[(\[{]) |(?<= -) | (?=[)\]}]|(?:[.,;:!?-](?: |$))|n't\b|'(?:s|m|d|re|ve|ll)\b)")


def tokenize(text: str) -> list[str]:
    """The words of a caption: lower case, no punctuation, contractions split (dog 's, do n't, can not).

    Words joined by spaces, or by `detokenize`, are read as the same words again; only AT&T and the like
    need their capitals to stay one word.
    """
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    return [_BRACKETS.get(word, word) for word in map(str.lower, _WORD.findall(text.translate(_CHARACTERS)))]


def detokenize(words: Iterable[str]) -> str:
    """Words as a line for a reader: "the dog 's ball" becomes "the dog's ball", -lrb- a bracket.

    Marks that vocabularies of other projects have as words join theirs: "a t - shirt ." is "a t-shirt.".
    """
    signs = {name: sign for sign, name in _BRACKETS.items()}
    return _JOINED.sub("", " ".join(" ".join(signs.get(word, word) for word in words).split()))
