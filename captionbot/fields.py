"""Fields of records: what each is for, and whether it holds what it declares.

JSON, YAML and command lines have types of their own. Search options and training's configuration say in
`About` what a field does and what it takes; flags, widgets, `--help` and docs/options.md are made of that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from captionbot.errors import CaptionBotError, shortened

_BEYOND = 1e9  # limits above it are of no interest to a reader


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


@dataclass(frozen=True)
class About:
    """What a field is for.

    help: what its value does, a phrase that begins in lower case.
    low, high: the least and the most that is allowed; None for no such limit. choices: all that is allowed.
    needs: the field that must be set for it to have an effect.
    label: its name on a page. widget: low, high and step of a slider, which may offer less than is allowed.
    """

    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    needs: str = ""
    label: str = ""
    widget: tuple[float, float, float] | None = None

    @property
    def allowed(self) -> str:
        """What is allowed, for a reader; "" where its type says it all."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is None:
            return ""
        if self.high is None or self.high > _BEYOND:
            return f"{_shown(self.low)} or more"
        return f"{_shown(self.low)} to {_shown(self.high)}"

    @property
    def sentence(self) -> str:
        """The help as a sentence, for a page."""
        return f"{self.help[:1].upper()}{self.help[1:]}."


def about(
    help: str,
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | Any = MISSING,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    needs: str = "",
    label: str = "",
    widget: tuple[float, float, float] | None = None,
) -> Any:
    """A field of a dataclass with its `About`."""
    said = About(help, low, high, choices, needs, label, widget)
    return dataclasses.field(default=default, default_factory=factory, metadata={"about": said})


def abouts(record: type[Any]) -> dict[str, About]:
    """What a record's fields are for, by their names, those that say it."""
    return {f.name: f.metadata["about"] for f in dataclasses.fields(record) if "about" in f.metadata}


def table_of(record: type[Any], flag: str = "") -> str:
    """The fields of a record as a table in Markdown.

    flag: what stands in front of a name, as "--" for those that are flags.
    """
    lines = [f"| {'flag' if flag else 'field'} | default | allowed | what it does |", "|---|---|---|---|"]
    for name, said in abouts(record).items():
        default = getattr(record, name, None)
        shown = "" if default is None or default == "" else f"`{default}`"
        name = f"{flag}{name.replace('_', '-') if flag else name}"
        lines.append(f"| `{name}` | {shown} | {said.allowed} | {said.help} |")
    return "\n".join(lines) + "\n"


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
