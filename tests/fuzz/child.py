"""The process in which one target reads its inputs, one after the other: `python -m fuzz.child TARGET FD`."""

from __future__ import annotations

import resource
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection

from captionbot.errors import CaptionBotError

MOST_MAPPED = 16 * 2**30  # so that no input ends the machine before the runner sees it
MOST_WRITTEN = 2**30
LONGEST_SENTENCE = 1000  # characters: 200 of what was given, of a few things, and the sentence itself


def main(target: str, fd: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MAPPED, MOST_MAPPED))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_WRITTEN, MOST_WRITTEN))
    module = import_module(f"fuzz.{target}")
    attack = module.attack
    getattr(module, "ready", lambda: None)()
    with Connection(int(fd)) as parent, suppress(EOFError):
        parent.send("ready")
        while True:
            name, data = parent.recv()
            parent.send(_fault(attack, name, data))


def _fault(attack, name: str, data: bytes) -> str:
    """What is wrong with how a file was read, "" for nothing."""
    try:
        attack(name, data)
    except CaptionBotError as error:
        sentence = str(error)
        if len(sentence) > LONGEST_SENTENCE:
            return f"a sentence of {len(sentence)} characters: {sentence[:300]}"
        if len(sentence.splitlines()) != 1:
            return f"a sentence of several lines, or none: {sentence[:300]!r}"
        try:
            sentence.encode()
        except UnicodeEncodeError:
            return f"a sentence that cannot be shown: {sentence[:300]!r}"
    except BaseException:  # Rust's panics are no Exception
        return traceback.format_exc(limit=-3)
    return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
