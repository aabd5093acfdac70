"""Files of the Hugging Face Hub: which commit a name means, what it holds, and how it gets here.

Only files are fetched, of one commit, by `downloads.download_file`; nothing of the Hub's own client is asked
but where it keeps files that a user has already. HF_ENDPOINT names a mirror, HF_TOKEN opens private and gated
repositories, and is sent to that endpoint alone; with HF_HUB_OFFLINE no request is made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.store.downloads import DELAYS, Progress, download_file

HUB = "https://huggingface.co"
WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
TOKENIZERS = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt")
_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_REVISION = re.compile(r"[\w./-]{1,100}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_LISTED = 4_000_000  # bytes of what the Hub says of a repository
_TIMEOUT = (10.0, 30.0)


@dataclass(frozen=True)
class Published:
    """A file of a repository: its size in bytes and its sha256, as far as the Hub says them."""

    size: int | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Repository:
    """A repository at one commit, and its files by their names."""

    id: str
    commit: str
    files: dict[str, Published]

    def url(self, file: str) -> str:
        return f"{endpoint()}/{self.id}/resolve/{self.commit}/{file}"


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def is_id(name: str) -> bool:
    """Whether a text can be the name of a repository, as Salesforce/blip-image-captioning-base."""
    return bool(_ID.fullmatch(name)) and ".." not in name


def at_endpoint(url: str) -> str:
    """An address of the Hub, at the mirror where one is named."""
    return f"{endpoint()}{url.removeprefix(HUB)}" if url.startswith(f"{HUB}/") else url


def headers(url: str) -> dict[str, str]:
    """What is sent along with a request: the user's token, to the endpoint alone."""
    token = os.environ.get("HF_TOKEN", "").strip()
    return {"Authorization": f"Bearer {token}"} if token and url.startswith(f"{endpoint()}/") else {}


def check_online(what: str) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE"):
        raise CaptionBotError(
            f"{what} is not here, and HF_HUB_OFFLINE forbids to ask the Hub for it: unset that, or fetch it "
            "on a machine with a network."
        )


def repository(name: str, revision: str | None = None) -> Repository:
    """What the Hub has under a name, at a branch, tag or commit (None: the main branch), by its commit.

    Raises CaptionBotError where it has nothing of that name, or cannot be asked.
    """
    import requests

    revision = revision or "main"
    if not is_id(name) or not _REVISION.fullmatch(revision) or ".." in revision:
        raise CaptionBotError(
            f"'{shortened(name, 60)}' at '{shortened(revision, 60)}' names no repository of the Hugging Face "
            "Hub: give OWNER/NAME, or a folder."
        )
    check_online(name)
    url = f"{endpoint()}/api/models/{name}/revision/{revision.replace('/', '%2F')}"
    try:
        with requests.get(
            url, params={"blobs": "true"}, headers=headers(url), timeout=_TIMEOUT, stream=True
        ) as answer:
            status, body = answer.status_code, answer.raw.read(_MOST_LISTED + 1, decode_content=True)
    except (requests.RequestException, OSError, ValueError):
        raise CaptionBotError(
            f"{shortened(endpoint())} did not answer for {name}: check the network and ask again."
        ) from None
    if status in (401, 403, 404):
        raise CaptionBotError(
            f"{shortened(endpoint())} has no {name} at {revision} that may be read ({status}): look for its "
            "name, or set HF_TOKEN for a private or gated one."
        )
    try:
        if status != 200 or len(body) > _MOST_LISTED:
            raise ValueError
        values = json.loads(body)
        commit = values["sha"]
        if not _COMMIT.fullmatch(commit) or (_COMMIT.fullmatch(revision) and commit != revision):
            raise ValueError
        return Repository(name, commit, dict(_file(entry) for entry in values["siblings"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CaptionBotError(
            f"{shortened(endpoint())} answered {status} for {name}, and nothing that can be read: ask again "
            "later."
        ) from None


def _file(entry: dict[str, Any]) -> tuple[str, Published]:
    sha256 = (entry.get("lfs") or {}).get("sha256") or ""
    if not re.fullmatch(r"([0-9a-f]{64})?", sha256):
        raise ValueError
    size = entry.get("size")
    return str(entry["rfilename"]), Published(size if isinstance(size, int) and size >= 0 else None, sha256)


def fetch(
    repository: Repository,
    file: str,
    target: Path,
    progress: Progress | None = None,
    delays: Sequence[float] | None = None,
) -> Path:
    """The target, a file of a repository: from the user's own cache of the Hub where that has it.

    delays: as of `download_file`, by default its own.
    """
    known = repository.files.get(file, Published())
    if not target.is_file() and (cached := in_users_cache(repository.id, repository.commit, file)):
        return link(cached, target)
    url = repository.url(file)
    check_online(file)
    pauses = DELAYS if delays is None else delays
    return download_file(url, target, known.size, known.sha256, progress, pauses, headers(url))


def in_users_cache(name: str, commit: str, file: str) -> Path | None:
    """Where the user's cache of the Hub has a whole file of a commit."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(name, file, revision=commit)
    return Path(found) if isinstance(found, str) and Path(found).is_file() else None


def link(source: Path, target: Path) -> Path:
    """The same file under another name, copied where a file system cannot do that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return target
    partial = target.with_name(f".{target.name}.link")
    partial.unlink(missing_ok=True)
    try:
        try:
            os.link(source.resolve(), partial)
        except OSError:
            shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError as error:
        raise CaptionBotError(
            f"{target} cannot be written ({error.strerror or error}): make room, or set CAPTIONBOT_CACHE to "
            "another folder."
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return target
