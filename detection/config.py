"""YAML into dataclasses, strictly: unknown keys and wrong types are refused with the nearest right key.

Imports the standard library, PyYAML and detection.errors. The type hints of the dataclasses are the whole schema.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union

import yaml

from detection.errors import MobileSSDError

Special = dict[type, Callable[[Any, str], Any]]  # what reads a section in a way of its own, by dataclass


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence; here the second one is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict)):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises MobileSSDError, one line with file and line number."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise MobileSSDError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MobileSSDError(f"{path}: cannot be read as text ({error})") from None


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """The mapping in a YAML text; `name` is what errors call it."""
    try:
        data = yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise MobileSSDError(f"{where}: no valid YAML ({reason})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise MobileSSDError(f"{name}: expected keys and values, found {_shown(data)}")
    return data


def build(kind: type, data: Any, name: str = "", special: Special | None = None) -> Any:
    """The dataclass `kind` from plain data. `name` (a file) begins each error; nested keys are written a.b.c.

    Raises MobileSSDError for an unknown key, with the nearest right one, for a value of another type, and for what the
    dataclass itself refuses.
    """
    return _Reader(name, dict(keys_of(kind)), special or {}).section(kind, data, "")


def keys_of(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted keys of a dataclass with their type hints, sections included."""
    for key, hint in typing.get_type_hints(kind).items():
        yield prefix + key, hint
        for part in _alternatives(hint):
            if dataclasses.is_dataclass(part):
                yield from keys_of(typing.cast(type, part), f"{prefix}{key}.")


@dataclasses.dataclass
class _Reader:
    name: str
    keys: dict[str, Any]
    special: Special

    def section(self, kind: type, data: Any, where: str) -> Any:
        if not isinstance(data, dict):
            self.fail(where, f"expected keys and values, found {_shown(data)}")
        hints = typing.get_type_hints(kind)
        prefix = f"{where}." if where else ""
        for key in data:
            if key not in hints:
                self.fail("", f"unknown key {prefix + str(key)!r}{self.nearest(str(key), prefix, hints)}")
        values = {key: self.value(hints[key], value, prefix + key) for key, value in data.items()}
        try:
            return kind(**values)
        except MobileSSDError as error:
            raise MobileSSDError(f"{self.name}: {error}" if self.name else str(error)) from None

    def value(self, hint: Any, value: Any, where: str) -> Any:
        parts = _alternatives(hint)
        if value is None and type(None) in parts:
            return None
        for part in parts:
            if dataclasses.is_dataclass(part):
                kind = typing.cast(type, part)
                if kind in self.special:
                    try:
                        return self.special[kind](value, where)
                    except MobileSSDError as error:
                        raise MobileSSDError(f"{self.name}: {error}" if self.name else str(error)) from None
                return self.section(kind, value, where)
        for part in parts:
            accepted, result = _read(part, value)
            if accepted:
                return result
        expected = " or ".join(dict.fromkeys(_described(part) for part in parts if part is not type(None)))
        choices = [c for part in parts if typing.get_origin(part) is Literal for c in typing.get_args(part)]
        near = difflib.get_close_matches(str(value), [str(c) for c in choices], 1) if choices else []
        self.fail(
            where, f"expected {expected}, found {_shown(value)}" + (f"; did you mean {near[0]!r}?" if near else "")
        )

    def nearest(self, key: str, prefix: str, hints: dict[str, Any]) -> str:
        """A hint: a key of this section that is written almost so, else the same word in another section."""
        near = [prefix + found for found in difflib.get_close_matches(key, hints, 1, 0.75)]
        near = near or [dotted for dotted in self.keys if dotted.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
        near = near or [prefix + found for found in difflib.get_close_matches(key, hints, 1, 0.5)]
        leaves = {dotted.rsplit(".", 1)[-1]: dotted for dotted in self.keys}
        near = near or [leaves[found] for found in difflib.get_close_matches(key, leaves, 1, 0.6)]
        return f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; known are {', '.join(hints)}"

    def fail(self, where: str, reason: str) -> typing.NoReturn:
        raise MobileSSDError(": ".join(filter(None, (self.name, where, reason))))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _read(hint: Any, value: Any) -> tuple[bool, Any]:
    """(whether the value is of this type, the value as it)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments), value
    if origin is tuple:
        return _read_tuple(arguments, value)
    if hint is dict or origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value), value
    if hint is float:
        number = _number(value)
        return number is not None, number
    if hint is int:
        number = _number(value)
        return number is not None and number.is_integer(), int(number) if number is not None else None
    return hint in (str, bool) and type(value) is hint, value


def _read_tuple(arguments: tuple[Any, ...], value: Any) -> tuple[bool, Any]:
    if not isinstance(value, (list, tuple)):
        return False, None
    kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(kinds) != len(value):
        return False, None
    read = [_read(kind, item) for kind, item in zip(kinds, value)]
    return all(accepted for accepted, _ in read), tuple(item for _, item in read)


def _number(value: Any) -> float | None:
    """Finite numbers, also those that YAML 1.1 reads as text: 4e-5 has no point."""
    if isinstance(value, str) and "_" not in value and value[-1:].isdigit():
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _described(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list ({_described(arguments[0])} each)"
        return f"a list of {len(arguments)} numbers"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint, "keys and values")


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
