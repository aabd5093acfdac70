"""Whether records that were read from JSON hold what they declare: JSON has types of its own."""

from __future__ import annotations

from math import inf
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def check_fields(record: Any) -> None:
    """TypeError where a field of a dataclass does not have its declared type, or a number is below 0.

    Understood are plain types, unions, and tuples (lists, in JSON) and dicts of them.
    """
    for name, hint in get_type_hints(type(record)).items():
        value = getattr(record, name)
        if not _fits(value, hint):
            raise TypeError(f"its {name} is {value!r:.60}, where {getattr(hint, '__name__', hint)} must be")


def _fits(value: Any, hint: Any) -> bool:
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in inside)
    if kind in (int, float):
        number = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return number and 0 <= value < inf
    if kind is tuple:
        fits = isinstance(value, tuple | list) and (... in inside or len(value) == len(inside))
        return fits and all(_fits(one, inside[0]) for one in value)
    if kind is dict:
        return isinstance(value, dict) and all(_fits(one, inside[1]) for one in value.values())
    return kind is Any or isinstance(value, kind)
