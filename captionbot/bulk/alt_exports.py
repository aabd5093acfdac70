"""The alt texts of a review as other programs want them: text files, XMP sidecars, an HTML page, a .zip."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import PurePosixPath
from string import Template
from urllib.parse import quote

from captionbot.bulk.records import as_written, free_name
from captionbot.bulk.review import Entry, csv_bytes, jsonl_bytes
from captionbot.files import utf8
from captionbot.images.embedding import embed_each
from captionbot.images.metadata import sidecar

CSV, JSONL, HTML = "alt-text.csv", "alt-text.jsonl", "alt-text.html"
LEFT_OUT = "left-out.txt"

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Alt texts</title><style>
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:0 auto;padding:1.5rem}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:1.5rem}
figure{margin:0}img{width:100%;height:200px;object-fit:cover;border-radius:10px;background:#8883}
figcaption{margin:.4rem 0;overflow-wrap:anywhere}small{opacity:.75}
code{display:block;font-size:.78rem;overflow-wrap:anywhere;background:#8882;border-radius:6px;padding:.4rem}
</style></head><body><h1>Alt texts</h1>
<p>$count. The line under a picture is HTML to copy.</p>
<main>
$figures
</main></body></html>
""")


def written(entries: Iterable[Entry], accepted: bool = False) -> list[Entry]:
    """The entries that have a text to write; accepted: only those that a person is through with."""
    return [entry for entry in entries if not entry.error and (entry.done or not accepted)]


def below(name: str) -> PurePosixPath:
    """The path of a photo as a relative one that never leads out of a folder, whatever an archive says."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/")]
    return PurePosixPath(*parts or ["image"])


def html(
    entries: Sequence[Entry],
    picture: Callable[[Entry], str] | None = None,
    address: Callable[[Entry], str] | None = None,
) -> str:
    """A page of photos with their alt texts, each with its `<img>` to copy.

    picture: the address of what is shown of a photo, such as a data URL; address: of the photo itself, as the
        line to copy has it. Both are the photo's name otherwise.
    """
    named: Callable[[Entry], str] = address or (lambda entry: quote(entry.image))
    figures = "\n".join(_figure(entry, (picture or named)(entry), named(entry)) for entry in entries)
    return _PAGE.substitute(figures=figures, count=f"{len(entries)} photos")


def _figure(entry: Entry, picture: str, address: str) -> str:
    alt = escape(entry.alt)
    line = f'<img src="{escape(address)}" alt="{alt}">'
    return (
        f'<figure><img src="{escape(picture)}" alt="{alt}" loading="lazy">'
        f"<figcaption>{alt}<br><small>{escape(entry.image)}</small></figcaption>"
        f"<code>{escape(line)}</code></figure>"
    )


def texts(entries: Iterable[Entry]) -> Iterator[tuple[str, bytes]]:
    """A text file for every photo, of one line: its relative path and its bytes."""
    taken: set[str] = set()
    for entry in entries:
        yield as_written(free_name(below(entry.image), taken)), utf8(f"{entry.alt}\n")


def sidecars(entries: Iterable[Entry]) -> Iterator[tuple[str, bytes]]:
    """An XMP file for every photo that has a text: its relative path and its bytes."""
    taken: set[str] = set()
    for entry in entries:
        name = f"{below(entry.image)}.xmp"
        if entry.alt and name not in taken:  # of two photos of one name the first
            taken.add(name)
            yield as_written(name), sidecar(entry.alt)


def embedded(photos: Sequence[tuple[str, bytes, str]]) -> Iterator[tuple[str, bytes]]:
    """A copy of every photo with its text in it: its relative path and its bytes; then why others have none.

    photos: name, bytes and text of each.
    """
    taken: set[str] = set()
    left_out = []
    for (name, _, _), found in zip(photos, embed_each(photos), strict=True):
        path = str(below(name))
        if isinstance(found, str):
            left_out.append(found)
        elif path not in taken:  # of two photos of one name the first
            taken.add(path)
            yield as_written(path), found
    if left_out:
        yield LEFT_OUT, utf8("\n".join([*left_out, ""]))


def zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def everything(entries: Sequence[Entry], page: Callable[[], str]) -> bytes:
    """A .zip of all formats. page: the HTML."""
    sound = written(entries)
    return zipped(
        [
            (CSV, csv_bytes(entries)),
            (JSONL, jsonl_bytes(entries)),
            (HTML, utf8(page())),
            *((f"txt/{name}", data) for name, data in texts(sound)),
            *((f"xmp/{name}", data) for name, data in sidecars(sound)),
        ]
    )
