"""The one exception that a person is shown, and how what they gave is repeated to them."""

from __future__ import annotations

import re

MOST_REPEATED = 200  # characters of what was given that a sentence repeats
_UNSHOWN = re.compile(  # controls, marks that turn the direction of what follows, halves of characters
    "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class CaptionBotError(Exception):
    """A mistake that its reader can mend.

    The message is one sentence that says what was given, what is allowed and what to do; pages
    and the command line show it as it is, without a traceback.
    """


def displayable(text: str) -> str:
    """The text on one line, with a mark for each character that cannot be shown or sent.

    Names that are not UTF-8 hold lone surrogates, which no page, terminal or file can write.
    """
    return _UNSHOWN.sub("\ufffd", " ".join(text.splitlines()))


def shortened(given: object, most: int = MOST_REPEATED) -> str:
    """What was given, for a sentence: `displayable`, and at most so many characters.

    Of longer text the beginning and the end stay, since paths and addresses end in what tells them apart.
    """
    try:
        text = str(given)
    except (ValueError, RecursionError):  # integers of thousands of digits; lists in lists without end
        text = f"a very long {type(given).__name__}"
    if len(text) > most:
        begun = most // 2
        text = f"{text[:begun]}…{text[len(text) - (most - begun - 1) :]}"
    return displayable(text)
