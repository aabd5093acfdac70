"""What a safetensors file holds, checked before anything of its size is made."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError, shortened

_WIDTHS = {  # bytes of a number
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_MOST_HEADER, _MOST_TENSORS, _LONGEST_NAME, _MOST_AXES = 4_000_000, 20_000, 500, 8
SCALE = ".scale"
BLOCK = 64  # numbers of a convolution that share a scale in int8: a large one coarsens all others


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a file; CaptionBotError for what is no sound safetensors file.

    Every byte must belong to one tensor, as its format asks, and scales of int8 fit what they scale: else a
    small file could ask for any memory.
    """
    try:
        return _shapes(path)
    except OSError as error:
        raise CaptionBotError(
            f"{shortened(path)} cannot be read ({error.strerror}): put a good copy there."
        ) from None
    except ValueError as error:
        raise CaptionBotError(
            f"{shortened(path)} is no safetensors file, or damaged ({error}): put a good copy of it there."
        ) from None


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER):
            raise ValueError("its header is cut off, or too long")
        header = file.read(length)
    try:
        entries = json.loads(header.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ValueError("its header is damaged") from None
    if not isinstance(entries, dict) or len(entries) > _MOST_TENSORS:
        raise ValueError("its header is damaged, or lists too many tensors")
    metadata = entries.pop("__metadata__", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError("its metadata is damaged")
    shapes, ends = {}, {}
    for name, entry in entries.items():
        shapes[name], ends[name] = _tensor(name, entry)
    at = 0
    for start, end in sorted(ends.values()):
        if start != at:
            raise ValueError("its tensors overlap, or leave gaps")
        at = end
    if at != size - 8 - length:
        raise ValueError("it is cut off, or longer than its tensors")
    for name, shape in shapes.items():
        scale = shapes.get(name + SCALE)
        if scale is not None and list(scale) not in scale_shapes(shape):
            raise ValueError(f"it has {list(scale)} scales for the {list(shape)} of {shortened(name, 100)}")
    return shapes


def scale_shapes(shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """The shapes that scales of a tensor may have: one a block, or one a row."""
    rows = list(shape[:1])
    return [*rows, math.ceil(math.prod(shape[1:]) / BLOCK)], rows


def _tensor(name: str, entry: Any) -> tuple[tuple[int, ...], tuple[int, int]]:
    """A tensor's shape, and where its bytes begin and end."""
    try:
        width, shape, (start, end) = _WIDTHS[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if len(name) > _LONGEST_NAME or len(shape) > _MOST_AXES:
            raise ValueError
        if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
            raise ValueError
        if math.prod(shape) * width != end - start:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError("its header has a tensor of no such type, shape or size") from None
    return tuple(shape), (start, end)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What JSON calls an object, ValueError where a name comes twice: readers differ in which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found
