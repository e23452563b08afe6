"""Checked configuration: plain data (of YAML, JSON) into dataclasses, with one line for what is wrong in it.

The type hints of a dataclass are its whole schema: `Annotated[float, Meta(ge=0, le=1)]` is a number from 0 to 1. msgspec
compares values with them; the nearest right key is ours.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, Union

import msgspec

from detection.errors import MobileSSDError, nearest, quoted
from detection.limits import MOST, MOST_IMAGES, MOST_WORKERS

T = TypeVar("T")

# Ranges that many keys share. A limited number must not stand in a union beside a tuple of fixed length: msgspec 0.22
# then reads memory that it does not own (tests/test_configs.py looks for such hints).
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
BatchSize = Annotated[int, msgspec.Meta(ge=1, le=MOST_IMAGES)]
Workers = Annotated[int, msgspec.Meta(ge=0, le=MOST_WORKERS)]


def build(kind: type[T], data: Any, name: str = "") -> T:
    """The dataclass `kind` from plain data. `name` (a file) begins each error; nested keys are written a.b.c.

    Numbers may be written as whole or broken ones where that says the same; an object of a section's dataclass is taken
    as it is. Raises MobileSSDError, one line, for an unknown key (with the nearest right one), for a missing one, for a
    value of another type or out of its range, and for what the dataclass itself refuses.
    """
    try:
        return _Reader(kind).section(kind, data, "")
    except MobileSSDError as error:
        raise MobileSSDError(f"{name}: {error}" if name else str(error)) from None


def check(instance: Any) -> None:
    """Raises MobileSSDError, as `build`, for a dataclass that was made by hand and has a value of another type or range."""
    reader = _Reader(type(instance))

    def section(part: Any, prefix: str) -> None:
        for key, hint in hints_of(part.__class__).items():
            value = getattr(part, key)
            if dataclasses.is_dataclass(value):
                section(value, f"{prefix}{key}.")
            else:
                reader.value(hint, value, prefix + key)

    section(instance, "")


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """The type hint of each key of a dataclass, with its `Meta`."""
    return typing.get_type_hints(kind, include_extras=True)


def known_keys(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """Those keys and values that a dataclass has, for files in which a later version may write more."""
    return {key: value for key, value in data.items() if key in hints_of(kind)}


def keys_of(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted keys of a dataclass with their type hints, sections included."""
    for key, hint in hints_of(kind).items():
        yield prefix + key, hint
        if (inner := _section_of(hint)) is not None:
            yield from keys_of(inner, f"{prefix}{key}.")


@dataclasses.dataclass
class _Reader:
    kind: type

    def section(self, kind: type, data: Any, where: str) -> Any:
        if isinstance(data, kind):
            return data
        if not isinstance(data, dict):
            _fail(where, f"expected keys and values, found {quoted(data)}")
        hints = hints_of(kind)
        prefix = f"{where}." if where else ""
        for key in data:
            if key not in hints:
                raise MobileSSDError(f"unknown key {prefix + str(key)!r}{self.hint(str(key), prefix, hints)}")
        for field in dataclasses.fields(kind):
            if field.name not in data and field.default is field.default_factory is dataclasses.MISSING:
                _fail(where, f"{field.name} is missing")
        return kind(**{key: self.value(hints[key], value, prefix + key) for key, value in data.items()})

    def value(self, hint: Any, value: Any, where: str) -> Any:
        """The value as one of this type."""
        parts = _alternatives(hint)
        if value is None and type(None) in parts:
            return None
        if (kind := _section_of(hint)) is not None:
            return self.section(kind, value, where)
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else None
        if dataclasses.is_dataclass(inner) and isinstance(value, (list, tuple)):
            return tuple(self.value(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
        if isinstance(value, float) and value.is_integer() and int in parts and float not in parts:
            value = int(value)
        try:
            found = msgspec.convert(value, hint)
        except msgspec.ValidationError:
            _fail(where, _out_of_range(hint, value) or _wrong_type(parts, value))
        if not all(math.isfinite(number) for number in _numbers(found)):
            _fail(where, _wrong_type(parts, value))
        return found

    def hint(self, key: str, prefix: str, hints: dict[str, Any]) -> str:
        """What to say of an unknown key: one of this section that is written almost so, else the same word in another
        section."""
        every = [dotted for dotted, _ in keys_of(self.kind)]
        leaves = {dotted.rsplit(".", 1)[-1]: dotted for dotted in every}
        near = [prefix + found for found in nearest(key, hints, cutoff=0.75)]
        near = near or [dotted for dotted in every if dotted.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
        near = near or [prefix + found for found in nearest(key, hints, cutoff=0.5)]
        near = near or [leaves[found] for found in nearest(key, leaves)]
        return f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; known are {', '.join(hints)}"


def plain(value: Any) -> Any:
    """Dictionaries, lists and single values, as YAML and JSON have them (`dataclasses.asdict` leaves tuples)."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def _fail(where: str, reason: str) -> typing.NoReturn:
    raise MobileSSDError(f"{where}: {reason}" if where else reason)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The parts of a union without their `Meta`."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(typing.get_args(part)[0] if typing.get_origin(part) is Annotated else part for part in parts)


def _section_of(hint: Any) -> type | None:
    """The dataclass that a hint means, if it does."""
    return next(
        (part for part in _alternatives(hint) if isinstance(part, type) and dataclasses.is_dataclass(part)), None
    )


def _numbers(value: Any) -> list[float]:
    items = value if isinstance(value, tuple) else (value,)
    return [item for item in items if isinstance(item, float)]


def _limits(hint: Any) -> tuple[float, float]:
    """The least and the largest number that the first `Meta` of a hint allows."""
    if typing.get_origin(hint) is Annotated:
        for meta in typing.get_args(hint)[1:]:
            if isinstance(meta, msgspec.Meta):
                return -math.inf if meta.ge is None else meta.ge, math.inf if meta.le is None else meta.le
    found = [_limits(part) for part in typing.get_args(hint) if typing.get_origin(hint) is not Literal]
    return next((limits for limits in found if limits != (-math.inf, math.inf)), (-math.inf, math.inf))


def _out_of_range(hint: Any, value: Any) -> str | None:
    least, most = _limits(hint)
    for number in value if isinstance(value, (list, tuple)) else (value,):
        if type(number) in (int, float) and number == number and not least <= number <= most:
            written = f"{number:g}" if abs(number) < 1e300 else quoted(number)
            if most >= MOST:
                return f"{written} is not at {'least' if number < least else 'most'} {least if number < least else most:.10g}"
            return f"{written} is not from {least:g} to {most:g}"
    return None


def _wrong_type(parts: tuple[Any, ...], value: Any) -> str:
    expected = " or ".join(dict.fromkeys(_described(part) for part in parts if part is not type(None)))
    choices = [str(c) for part in parts if typing.get_origin(part) is Literal for c in typing.get_args(part)]
    near = nearest(str(value), choices)
    return f"expected {expected}, found {quoted(value)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _described(hint: Any) -> str:
    parts = _alternatives(hint)
    if len(parts) > 1:
        return " or ".join(dict.fromkeys(map(_described, parts)))
    (hint,) = parts
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if origin in (tuple, list):
        if origin is list or arguments[-1] is Ellipsis:
            return f"a list ({_described(arguments[0])} each)"
        return f"a list of {len(arguments)} numbers"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint, "keys and values")
