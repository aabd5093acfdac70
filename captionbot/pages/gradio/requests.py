"""Which requests reach Gradio's server, and how large they may be.

Gradio's server can do more than this page needs: fetch from addresses, convert recordings, keep copies of
whole pages. None of it is reached. Bodies are counted as they come, since a client may not say their length.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
from gradio.utils import get_upload_folder
from starlette.responses import PlainTextResponse

from captionbot.errors import shortened

MEGABYTE = 1_000_000
MAX_UPLOADS = 4_000 * MEGABYTE  # of all visitors together, at one time
UPLOADS_KEPT = 600  # seconds, after which Gradio deletes them
API = "/gradio_api"
POSTS = {  # what may be posted where, in bytes
    f"{API}/upload": 1_000 * MEGABYTE,  # many photos at once
    f"{API}/mcp": 40 * MEGABYTE,  # photos as text
    f"{API}/call/": 2 * MEGABYTE,
    f"{API}/run/": 2 * MEGABYTE,
    f"{API}/api/": 2 * MEGABYTE,
    f"{API}/queue/join": 2 * MEGABYTE,
    f"{API}/cancel": MEGABYTE // 10,
    f"{API}/reset": MEGABYTE // 10,
}
CLOSED = tuple(
    f"{API}/{name}"
    for name in ("proxy=", "file=http:", "file=https:", "file/", "stream/", "deep_link", "dev/", "monitoring")
)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class TooLargeError(Exception):
    """A request has more bytes than it may."""


class Requests:
    """ASGI middleware: an app behind the limits of this module."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = allowed(scope["method"], scope["path"])
        if most is None:
            await PlainTextResponse("This page has no such address.", 404)(scope, receive, send)
            return
        uploads = scope["method"] == "POST" and scope["path"].startswith(f"{API}/upload")
        if uploads and await anyio.to_thread.run_sync(make_room) > MAX_UPLOADS:
            full = "Other visitors have uploaded all that fits: try again in ten minutes."
            await PlainTextResponse(full, 503)(scope, receive, send)
            return
        await self._counted(most, scope, receive, send)

    async def _counted(self, most: int, scope: Any, receive: Receive, send: Send) -> None:
        sentence = f"A request may have {most / MEGABYTE:g} MB here: send less at once."
        too_large = PlainTextResponse(sentence, 413)
        left, started = most, False

        async def counted() -> Any:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLargeError
            return message

        async def noted(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            await too_large(scope, receive, send)
            return
        try:
            await self.app(scope, counted, noted)
        except TooLargeError:
            if not started:
                await too_large(scope, receive, send)
        except Exception as error:  # what Gradio does not expect of a client
            logging.getLogger(__name__).warning("%s failed: %s", scope["path"][:100], shortened(repr(error)))
            if not started:
                await PlainTextResponse("This request cannot be read.", 400)(scope, receive, send)


def allowed(method: str, path: str) -> int | None:
    """The most bytes that a request may send; None where it does not reach the server."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return None if path.lower().startswith(CLOSED) else MEGABYTE
    if method == "DELETE":  # the end of a session of MCP
        return MEGABYTE if path.startswith(f"{API}/mcp") else None
    return next((most for start, most in POSTS.items() if method == "POST" and path.startswith(start)), None)


def make_room() -> int:
    """The bytes in Gradio's folder of uploads, once what it forgot is gone.

    It deletes what it noted; uploads that broke off and emptied folders stay.
    """
    folder, total, old = Path(get_upload_folder()), 0, time.time() - UPLOADS_KEPT
    for entry in folder.glob("*"):
        with suppress(OSError):
            if entry.is_dir():
                total += sum(file.lstat().st_size for file in entry.iterdir())
                if entry.lstat().st_mtime < old:
                    entry.rmdir()  # fails where anything is in it
            elif entry.lstat().st_mtime < old:
                entry.unlink()
            else:
                total += entry.lstat().st_size
    return total
