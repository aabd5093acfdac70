"""Downloads of large files that can be relied on: verified, resumed, retried, and whole or not there.

`torch.hub.download_url_to_file` begins again after every break, checks a few digits of a hash at most,
and takes a server's HTML page for a file where no hash is known; large files on poor networks need better.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captionbot.errors import CaptionBotError, shortened

if TYPE_CHECKING:  # requests takes a moment to import, and most runs download nothing
    from requests import Response

Progress = Callable[[int, int | None], None]

DELAYS = (1.0, 4.0, 10.0)
MAX_BYTES = 4_000_000_000  # of a file whose size nobody told

_CHUNK = 1 << 16
_TIMEOUT = (10.0, 30.0)  # seconds to connect, and of silence
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
_VERSION = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")  # what can be asked for: no request is sent with others
_MARKUP = re.compile(rb"\s*<[!?a-z]", re.IGNORECASE)


class _BrokenError(Exception):
    """A failure that the next try may not meet."""


@dataclass(frozen=True)
class _Job:
    """One file to fetch. digest: as many hex digits of its sha256 as are published, perhaps none."""

    url: str
    target: Path
    size: int | None
    digest: str
    headers: Mapping[str, str]

    @property
    def named(self) -> str:
        """The address as sentences call it."""
        return shortened(self.url)

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def origin(self) -> Path:
        """Beside the part: the address that it comes from, and which version of the file it is of."""
        return self.target.with_name(f"{self.target.name}.part.json")

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)


def download_file(
    url: str,
    target: Path,
    size: int | None = None,
    digest: str = "",
    progress: Progress | None = None,
    delays: Sequence[float] = DELAYS,
    headers: Mapping[str, str] | None = None,
) -> Path:
    """The target, downloaded unless a whole one is there; what broke off goes on where it stopped.

    The file appears under its name only when it is whole: of the published size and hash, or, where
    there are none, as long as the server announced it.

    size: published size in bytes.
    digest: the published sha256 in hex, or its first digits.
    progress: called with the bytes so far and in all, None where nobody says how many.
    delays: seconds to wait before each further try.
    headers: sent along with each request; one that says who asks is not sent on to other hosts.
    Raises CaptionBotError, whatever went wrong.
    """
    job = _Job(url, target, size, digest, headers or {})
    with _disk_errors(job):
        if not _is_whole(job):
            from filelock import FileLock  # comes with torch

            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{target}.lock"):
                if not _is_whole(job):  # another process may have fetched it meanwhile
                    _persist(job, progress or (lambda done, total: None), delays)
                    _keep(job)
    return target


def _record(target: Path) -> Path:
    """Beside a file: the sha256 that it had when it was downloaded, in the format of sha256sum."""
    return target.with_name(f"{target.name}.sha256")


def recorded_sha256(target: Path) -> str | None:
    """The sha256 that a file had when it was downloaded, None where it was not downloaded here."""
    record = _record(target)
    return record.read_text(encoding="utf-8", errors="replace").split(" ")[0] if record.is_file() else None


def _is_whole(job: _Job) -> bool:
    expected = job.digest if len(job.digest) == 64 else recorded_sha256(job.target)
    return (
        expected is not None
        and expected.startswith(job.digest)
        and job.target.is_file()
        and _sha256(job.target) == expected
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _disk_errors(job: _Job) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            job.discard()  # gives back the room that others may be waiting for
            raise _no_room(job, os.strerror(error.errno)) from error
        raise CaptionBotError(
            f"{job.target.parent} cannot be written to ({error.strerror or error}): "
            "choose another folder, or set CAPTIONBOT_CACHE to one."
        ) from error


def _no_room(job: _Job, reason: str) -> CaptionBotError:
    return CaptionBotError(
        f"{job.target.parent} has no room for {job.target.name} ({reason}): "
        "make room, choose another folder, or set CAPTIONBOT_CACHE to one."
    )


def _persist(job: _Job, progress: Progress, delays: Sequence[float]) -> None:
    """Tries until the part is complete, waiting ever longer."""
    from requests import RequestException

    for delay in (*delays, None):
        try:
            _try(job, progress)
            return
        except (_BrokenError, RequestException, ValueError) as error:  # ValueError: no HTTP, or no address
            if delay is None:
                raise CaptionBotError(
                    f"{job.target.name} could not be downloaded from {job.named} "
                    f"({_reason(error)}): check the network and ask again, it goes on where it stopped."
                ) from error
            time.sleep(delay)


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, _BrokenError):
        return str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not valid"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return "no address or answer of HTTP"


def _try(job: _Job, progress: Progress) -> None:
    """One request, which completes the part or raises."""
    import requests

    have, version = _resumable(job)
    headers = {**job.headers, "Accept-Encoding": "identity", "User-Agent": "captionbot"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    with requests.get(job.url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if have and response.status_code in (206, 416):
            if not _continues(response, have, version):
                job.discard()
                raise _BrokenError("the server's file changed")
            if response.status_code == 416:
                return  # nothing comes after what is here
        else:
            have = 0
        _check(response, job, 206 if have else 200)
        if not have:
            _begin(job, response)
        _receive(response, job, have, progress)


def _resumable(job: _Job) -> tuple[int, str]:
    """How many bytes of the part can be kept, and the version of the file that they are of."""
    try:
        origin = json.loads(job.origin.read_text(encoding="utf-8"))
        if origin["url"] == job.url and _VERSION.fullmatch(origin["version"]):
            return job.part.stat().st_size, origin["version"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):  # no part, or damaged notes
        pass
    return 0, ""


def _version(response: Response) -> str:
    """What If-Range accepts of a server's names for the version of its file, or nothing."""
    tag = response.headers.get("ETag", "")
    return response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _continues(response: Response, have: int, version: str) -> bool:
    """Whether an answer begins where the part ends, or says that all ends there, for the same version."""
    match = re.match(r"bytes (?:\*/)?(\d+)", response.headers.get("Content-Range", ""))
    return match is not None and int(match[1]) == have and _version(response) in ("", version)


def _begin(job: _Job, response: Response) -> None:
    job.discard()  # before the new notes are written: old bytes must never be taken for the new version's
    job.origin.write_text(json.dumps({"url": job.url, "version": _version(response)}), encoding="utf-8")


def _check(response: Response, job: _Job, status: int) -> None:
    """Refuses answers that cannot be the file."""
    hops = [hop.url for hop in (*response.history, response)]
    if job.url.startswith("https:") and not all(hop.startswith("https:") for hop in hops):
        raise CaptionBotError(
            f"{job.named} leads to an address without encryption, where anyone can change the file: "
            "download it yourself, if you trust it."
        )
    if response.status_code in _WORTH_ANOTHER_TRY:
        raise _BrokenError(f"the server answered {_status(response)}")
    if response.status_code != status:
        raise CaptionBotError(
            f"{job.target.name} is not to be had at {job.named}, which answered {_status(response)}: "
            "look for it at its source, or ask again later."
        )
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _page(job)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise CaptionBotError(
            f"{job.named} sends {job.target.name} compressed, which hides its size: download it by hand."
        )


def _status(response: Response) -> str:
    return f"{response.status_code} {http.client.responses.get(response.status_code, '')}".strip()


def _page(job: _Job) -> CaptionBotError:
    job.discard()
    return CaptionBotError(
        f"{job.named} sent a web page instead of {job.target.name}: "
        "open it in a browser to see what it wants."
    )


def _receive(response: Response, job: _Job, have: int, progress: Progress) -> None:
    """Adds the body to the part."""
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else job.size
    chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
    if total is None and not chunked and not job.digest:
        raise CaptionBotError(
            f"{job.named} does not say how long {job.target.name} is, so a part could pass for the whole: "
            "download it by hand."
        )
    if job.size not in (None, total):
        raise _wrong_size(job, total)
    if total is not None and shutil.disk_usage(job.part.parent).free < total - have:
        raise _no_room(job, f"{(total - have) / 1e6:,.1f} MB more are needed")
    with job.part.open("ab") as file:
        progress(have, total)
        for chunk in response.iter_content(_CHUNK):
            if not have and _MARKUP.match(chunk):
                raise _page(job)
            have += len(chunk)
            if have > (total or MAX_BYTES):
                raise _wrong_size(job, have)
            file.write(chunk)
            progress(have, total)
        file.flush()
        os.fsync(file.fileno())
    if not have or have < (total or 0):
        raise _BrokenError(f"the connection broke off after {have} bytes")


def _wrong_size(job: _Job, found: int | None) -> CaptionBotError:
    job.discard()
    return CaptionBotError(
        f"{job.target.name} from {job.named} has {found} bytes where {job.size or MAX_BYTES} were expected "
        "at most: it is another file, so look for it at its source."
    )


def _keep(job: _Job) -> None:
    """Gives the part its name, if it is what was published."""
    if job.size is not None and job.part.stat().st_size != job.size:
        raise _wrong_size(job, job.part.stat().st_size)
    found = _sha256(job.part)
    if not found.startswith(job.digest):
        job.discard()
        raise CaptionBotError(
            f"{job.target.name} from {job.named} has the sha256 {found} where {job.digest} is published: "
            "it is damaged or another file, so ask again or look for it at its source."
        )
    _record(job.target).write_text(f"{found}  {job.target.name}\n", encoding="utf-8")
    job.part.replace(job.target)
    job.discard()
