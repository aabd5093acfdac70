"""Descriptions written into photos of strangers, in a process of its own.

exiv2 reads and writes the files, in C++: what a hostile one does to it must not befall a page. The process
is given a .zip of photos and answers with one, and writes nothing to a disk.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec

from captionbot.errors import CaptionBotError
from captionbot.images.metadata import embedded, require_embedding

SECONDS = 120  # until it is given up
MEMORY = 2_000_000_000  # bytes that the process may have
_TEXTS = "texts.json"


def can_embed() -> bool:
    return find_spec("pyexiv2") is not None


def embed_each(photos: Sequence[tuple[str, bytes, str]]) -> list[bytes | str]:
    """Copies of photos with descriptions in them, in their order, or why there is none.

    photos: each one's name, bytes and description. Another description that is there stays.
    Raises CaptionBotError where exiv2 fails on one of them as a whole.
    """
    require_embedding()
    asked = _zip({_TEXTS: json.dumps([(name, text) for name, _, text in photos]).encode()}, photos)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", __name__], input=asked, capture_output=True, timeout=SECONDS, check=True
        )
        with zipfile.ZipFile(io.BytesIO(ran.stdout)) as answer:
            whys = json.loads(answer.read(_TEXTS))
            return [why or answer.read(str(number)) for number, why in enumerate(whys)]
    except (subprocess.SubprocessError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise CaptionBotError(
            "One of these photos cannot be given a description: take the sidecars instead."
        ) from error


def _zip(files: dict[str, bytes], photos: Sequence[tuple[str, bytes, str]] = ()) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # photos are compressed as they are
        for name, data in files.items():
            archive.writestr(name, data)
        for number, (_, data, _) in enumerate(photos):
            archive.writestr(str(number), data)
    return buffer.getvalue()


def _embed(name: str, data: bytes, text: str) -> tuple[str, bytes]:
    """Why there is no copy, or ""; and the copy."""
    try:
        after = embedded(data, text, name=name)
    except CaptionBotError as error:
        return str(error), b""
    return ("", after) if after is not None else (f"{name} has another description: it stays.", b"")


def main() -> None:
    """What the process does: a .zip on standard input, and one on standard output."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    with zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())) as asked:
        done = [
            _embed(name, asked.read(str(number)), text)
            for number, (name, text) in enumerate(json.loads(asked.read(_TEXTS)))
        ]
    answer = {_TEXTS: json.dumps([why for why, _ in done]).encode()}
    answer |= {str(number): data for number, (_, data) in enumerate(done) if data}
    sys.stdout.buffer.write(_zip(answer))


if __name__ == "__main__":
    main()
