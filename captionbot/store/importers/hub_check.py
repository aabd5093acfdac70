"""A check of a captioner of the Hub before it is fetched: its file against its configuration."""

from __future__ import annotations

import tempfile
from math import prod
from pathlib import Path

from captionbot.errors import CaptionBotError, shortened
from captionbot.images.archives import is_folder
from captionbot.store.hub import WEIGHTS, Repository, at_endpoint, check_online, fetch, headers, repository
from captionbot.store.importers.hub import Source, address_of
from captionbot.store.tensors import shapes_in
from captionbot.store.weights import weight_files

_MOST_HEADER = 4_000_000
_TIMEOUT = (10.0, 30.0)


def checked(name: str, revision: str | None = None) -> str:
    """A line on a repository whose tensors have the names and shapes of its model; nothing large is fetched.

    name: of weights/table.json, or of a repository. CaptionBotError where they differ.
    """
    from captionbot.hub import family_of_config, loading
    from captionbot.store.importers.hub import read_config

    source = None if "/" in name else _known(name)
    if source is None and is_folder(Path(name)):
        raise CaptionBotError(
            f"{shortened(name)} is a folder, whose files are checked as `python -m captionbot import hub "
            "FOLDER --out NAME` takes them: give OWNER/NAME, or a name of the table."
        )
    found = repository(source.id if source else name, source.revision if source else revision)
    if WEIGHTS not in found.files:
        raise CaptionBotError(
            f"{found.id} has no {WEIGHTS} at {found.commit[:8]}, whose header could be read: it is checked "
            "as it is downloaded."
        )
    with tempfile.TemporaryDirectory(prefix="captioner-") as folder:
        config = read_config(fetch(found, "config.json", Path(folder, "config.json")))
        family = family_of_config(config)
        weights = _hollow(found, Path(folder, WEIGHTS))
        shapes = shapes_in(weights)
        loading.load({"kind": "hub", "family": family.kind, "config": config}, weights, mapped=True)
    size = found.files[WEIGHTS].size
    return (
        f"{found.id} at {found.commit} fits {family.title(config)}: {len(shapes)} tensors, "
        f"{sum(map(prod, shapes.values())) / 1e6:.1f} million numbers"
        + (f", {size / 1e6:,.0f} MB" if size else "")
        + (f", sha256 {found.files[WEIGHTS].sha256}" if found.files[WEIGHTS].sha256 else "")
        + "."
    )


def _known(name: str) -> Source:
    names = [line.name for line in weight_files() if line.importer == "hub"]
    if name not in names:
        raise CaptionBotError(
            f"'{shortened(name)}' is none of the Hub's captioners that are known here ({', '.join(names)}): "
            "give one of these, or OWNER/NAME."
        )
    return address_of(name)


def _hollow(found: Repository, path: Path) -> Path:
    """A file with the header of a repository's weights, and zeros behind it, which fill no disk."""
    start = _bytes(found, 0, 8)
    length = int.from_bytes(start, "little")
    if length > _MOST_HEADER:
        raise CaptionBotError(f"{found.id} has no safetensors at {WEIGHTS}: its header is too long.")
    header = _bytes(found, 8, length)
    with path.open("wb") as file:
        file.write(start + header)
        file.truncate(8 + length + _end(header))
    return path


def _end(header: bytes) -> int:
    """How many bytes the tensors of a header have in all; 0 for a header that `shapes_in` will refuse."""
    import json

    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        end = max(ends, default=0)
        return end if isinstance(end, int) and 0 <= end < 2**40 else 0
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return 0


def _bytes(found: Repository, start: int, count: int) -> bytes:
    """A part of a repository's weights, by one ranged request."""
    import requests

    url = at_endpoint(found.url(WEIGHTS))
    check_online(found.id)
    asked = headers(url) | {"Range": f"bytes={start}-{start + count - 1}", "Accept-Encoding": "identity"}
    try:
        with requests.get(url, headers=asked, timeout=_TIMEOUT, stream=True) as answer:
            if answer.status_code == 206:
                data: bytes = answer.raw.read(count + 1)
                if len(data) == count:
                    return data
    except (requests.RequestException, OSError):
        pass
    raise CaptionBotError(
        f"{shortened(url)} gives no part of its file: ask again later, or download it, which checks it."
    )
