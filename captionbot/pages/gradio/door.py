"""The one door through which what visitors send reaches the page: its files, its texts, its arguments.

Gradio checks the paths of files only where a client marks them as files, and hands all else of a request on
as it came. `Page` checks everything that any event or endpoint is sent, before anything sees it: a new one
cannot forget to. What comes through are files that Gradio itself put into its folder of uploads, in this
process; whoever names one must know the random number in its path, which only its visitor was told.
"""

from __future__ import annotations

import inspect
import logging
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import anyio
import gradio as gr
from gradio.components.api_component import Api
from gradio.utils import get_upload_folder
from pydantic import InstanceOf, TypeAdapter, ValidationError

from captionbot.errors import CaptionBotError, displayable, shortened
from captionbot.pages.fetching import fetch_photo
from captionbot.pages.limits import checked_text
from captionbot.pages.samples import sample_photos

UNKNOWN = (
    "This file is not among those uploaded here, or was deleted after a while: upload it, and name it by "
    "what the upload answered."
)
MAX_MESSAGE = 600  # characters
_DEPTH = 8  # of lists and dictionaries in what a client sends; Gradio's own components need 3
_FILE_KEYS = {"path", "url", "meta", "is_stream"}  # a dictionary with any of these is a file to Gradio
_KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    gr.FileData: "an uploaded file, as gradio_client.handle_file makes it",
}


@dataclass(frozen=True)
class Upload:
    """A file that Gradio put into its folder of uploads in this process.

    name: what its visitor calls it, fit to be shown.
    """

    path: str
    name: str


@dataclass(frozen=True)
class Address:
    """Where a program says that a photo lies, on the public internet."""

    url: str


@contextmanager
def told() -> Iterator[None]:
    """Mistakes that a person can mend become the page's own messages."""
    try:
        yield
    except CaptionBotError as error:
        raise gr.Error(str(error), print_exception=False) from error


def warn(sentence: str) -> None:
    """A message that shows the sentence as it is: Gradio's messages are HTML."""
    gr.Warning(escape(displayable(sentence)))


class Page(gr.Blocks):
    """Blocks whose events and endpoints are sent nothing but what came through the door."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        with told():
            if len(inputs) < len(block_fn.inputs):
                raise CaptionBotError(
                    f"{len(inputs)} values were sent, where {len(block_fn.inputs)} are needed: give them all."
                )
            given = [self.admitted(value) for value in inputs[: len(block_fn.inputs)]]
            if is_endpoint(block_fn):
                given = [await self._fetched(value) for value in given]
                ready: list[Any] = arguments(block_fn.fn, given)
                return ready
            plain = [_as_gradio(value) for value in given]
            try:
                processed: list[Any] = await super().preprocess_data(block_fn, plain, state, explicit_call)
                return processed
            except ValueError as error:  # of pydantic, or of a component
                raise CaptionBotError(
                    "The values that were sent are none that this page sends: reload it and try again."
                ) from error

    async def process_api(self, block_fn: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """No event ends in an empty error, and none shows what a visitor wrote as HTML."""
        fn = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        try:
            with told():
                return await super().process_api(fn, *args, **options)
        except gr.Error as error:
            # Gradio's own messages repeat what they were given, at any length.
            error.message, error.print_exception = shortened(error.message, MAX_MESSAGE), False
            if not is_endpoint(fn):
                error.message = escape(error.message, quote=False)
            raise
        except Exception as error:
            logging.getLogger(__name__).exception("An event failed: %s", fn.name)
            raise gr.Error(
                "This went wrong, and not by your doing: reload the page and try again.",
                print_exception=False,
            ) from error

    def admitted(self, value: Any, depth: int = _DEPTH) -> Any:
        """The same value with its files as `Upload`s; CaptionBotError where anything in it is refused."""
        if isinstance(value, str):
            return checked_text(value)
        if not depth:
            raise CaptionBotError("The values that were sent lie too deep in each other: send plain ones.")
        if isinstance(value, list | tuple):
            return [self.admitted(inside, depth - 1) for inside in value]
        if isinstance(value, dict):
            if _FILE_KEYS & value.keys():
                return self.file(value)
            return {checked_text(str(key)): self.admitted(inside, depth - 1) for key, inside in value.items()}
        return value

    def file(self, given: dict[str, Any]) -> Upload | Address:
        """The upload that a dictionary of Gradio's names by its path, or the address that it has for one."""
        path, name = given.get("path"), given.get("orig_name")
        if not isinstance(path, str):
            raise CaptionBotError(UNKNOWN)
        checked_text(path, "The path")
        name = checked_text(name, "The name") if isinstance(name, str) and name else "photo"
        if path.lower().startswith(("http://", "https://")):
            return Address(path)
        if not self.holds(path):
            raise CaptionBotError(UNKNOWN)
        return Upload(path, displayable(name))

    def holds(self, path: str) -> bool:
        """Whether Gradio put this very path into its folder of uploads, or it is one of the page's samples.

        Gradio notes every file that it writes, to delete it later: uploads, and pictures that it showed.
        """
        if path in _samples():
            return True
        if not any(path in files for files in self.temp_file_sets):
            return False
        try:
            regular = stat.S_ISREG(Path(path).lstat().st_mode)
            inside = Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())
        except (OSError, ValueError):
            return False
        return regular and inside

    def keep(self, files: Sequence[tuple[str, bytes]]) -> list[str]:
        """Writes files into a new folder of Gradio's, which deletes them after a while; their paths."""
        folder = Path(get_upload_folder(), secrets.token_hex(16))
        folder.mkdir(parents=True)
        paths = []
        for name, data in files:
            (folder / name).write_bytes(data)
            paths.append(str(folder / name))
        self.upload_file_set.update(paths)
        return paths

    async def _fetched(self, value: Any) -> Any:
        """Addresses as uploads of what lies there."""
        if isinstance(value, list):
            return [await self._fetched(inside) for inside in value]
        if isinstance(value, Address):
            return Upload(await self.fetched(value.url), displayable(value.url))
        return value

    async def fetched(self, url: str) -> str:
        """The path of a new upload of what lies at an address; CaptionBotError as of `fetch_photo`."""
        data = await aside(fetch_photo, url)
        (path,) = self.keep([("photo", data)])
        return path


@cache
def _samples() -> frozenset[str]:
    return frozenset(str(path) for path in sample_photos().values())


async def aside(function: Callable[[str], Any], url: str) -> Any:
    """What a function that fetches returns, in a thread that answers no visitors."""
    return await anyio.to_thread.run_sync(function, url, limiter=_fetching())


@cache
def _fetching() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(32)


def _as_gradio(value: Any) -> Any:
    """Uploads as the dictionaries that Gradio's components take, with nothing in them that a client wrote
    but the name."""
    if isinstance(value, Upload):
        meta = {"_type": "gradio.FileData"}
        return {"path": value.path, "orig_name": value.name, "is_stream": False, "meta": meta}
    if isinstance(value, Address):  # the page has a box for addresses; Gradio would fetch it by itself
        raise CaptionBotError(UNKNOWN)
    if isinstance(value, list):
        return [_as_gradio(inside) for inside in value]
    if isinstance(value, dict):
        return {key: _as_gradio(inside) for key, inside in value.items()}
    return value


def is_endpoint(block_fn: Any) -> bool:
    """Whether it is one for programs, of `gr.api`."""
    return bool(block_fn.inputs) and all(isinstance(block, Api) for block in block_fn.inputs)


def arguments(function: Callable[..., Any], values: Sequence[Any]) -> list[Any]:
    """The values as the function's own hints say that they are; CaptionBotError where one cannot be.

    A parameter that is hinted as `gr.FileData`, as Gradio's documentation of endpoints wants it, is sent an
    `Upload`.
    """
    hints = get_type_hints(function)
    names = list(inspect.signature(function).parameters)
    return [_argument(name, hints[name], value) for name, value in zip(names, values, strict=True)]


def _argument(name: str, hint: Any, value: Any) -> Any:
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError:
        raise CaptionBotError(f"{name} is {_shown(value)}: give {_wanted(hint)}.") from None


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(_with_uploads(hint))


def _with_uploads(hint: Any) -> Any:
    upload = InstanceOf[Upload]  # made by the door, not of what a client sends
    if hint is gr.FileData:
        return upload
    return list[upload] if get_args(hint) == (gr.FileData,) else hint


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, str):
        return f"“{shortened(value)}”"
    if isinstance(value, int | float):
        return shortened(value)
    return "a list" if isinstance(value, list) else "an object"


def _wanted(hint: Any) -> str:
    """What a hint asks for, for a person."""
    parts = get_args(hint)
    if hint in _KINDS:
        return _KINDS[hint]
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if get_origin(hint) is list:
        return f"a list, each of its parts {_wanted(parts[0])}"
    return " or ".join("nothing" if part is NoneType else _wanted(part) for part in parts)
