"""Whether a record's fields hold what they declare: JSON, YAML and command lines have types of their own."""

from __future__ import annotations

import math
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from captionbot.errors import CaptionBotError, shortened


def check_fields(record: Any) -> None:
    """TypeError where a field of a dataclass that was read from JSON is of another type, or below 0."""
    for name, hint in get_type_hints(type(record)).items():
        try:
            as_type(f"its {name}", hint, getattr(record, name), strict=True)
        except CaptionBotError as error:
            raise TypeError(str(error).rstrip(".")) from None


def set_types(record: Any) -> None:
    """Give every field of a frozen record the declared type; CaptionBotError where it cannot be."""
    for name, hint in get_type_hints(type(record)).items():
        object.__setattr__(record, name, as_type(name, hint, getattr(record, name)))


def as_type(name: str, hint: Any, value: Any, strict: bool = False) -> Any:
    """A value as the type that its field declares; CaptionBotError where it cannot be.

    Understood are numbers, text, truth values, and unions, tuples (lists) and dicts of them; other types pass
    as they are. YAML takes 2e-4 for text, 10 for a whole number where a fraction is meant, and 2024 for a
    number where it is a name.

    strict: what is text, a whole number or a fraction must be written so, and no number is below 0.
    """
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        fitting = [one for one in inside if isinstance(value, get_origin(one) or one)]
        return as_type(name, (fitting or inside)[0], value, strict)
    if kind in (int, float):
        return _number(name, kind, value, strict)
    if kind is str:
        if (
            value is None
            or isinstance(value, bool | dict | list | tuple)
            or (strict and type(value) is not str)
        ):
            raise _wrong(name, value, "text")
        return str(value)
    if kind is bool and not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    if kind is dict:
        if not isinstance(value, dict):
            raise _wrong(name, value, "fields with their values, as {a: 1}")
        return {key: as_type(f"{name}'s {key}", inside[1], item, strict) for key, item in value.items()}
    if kind is tuple:
        length = "" if ... in inside else f" of {len(inside)}"
        if not isinstance(value, list | tuple) or (length and len(value) != len(inside)):
            raise _wrong(name, value, f"a list{length}, as [a, b]")
        return tuple(as_type(name, inside[0], part, strict) for part in value)
    return value


def _number(name: str, kind: type, value: Any, strict: bool) -> int | float:
    try:
        number = float("" if isinstance(value, bool) or (strict and isinstance(value, str)) else value)
    except (TypeError, ValueError, OverflowError):
        raise _wrong(name, value, "a number") from None
    if strict and number < 0:
        raise _wrong(name, value, "0 or more")
    if kind is int:
        if not number.is_integer() or (strict and isinstance(value, float)):
            raise _wrong(name, value, "a whole number")
        return int(value) if isinstance(value, int) else int(number)
    if not math.isfinite(number):
        raise _wrong(name, value, "a finite number")
    return number


def _wrong(name: str, value: Any, wanted: str) -> CaptionBotError:
    given = "empty" if value is None else shortened(value, 60)
    return CaptionBotError(f"{shortened(name, 60)} is {given}; give {wanted}.")
