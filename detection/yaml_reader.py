"""YAML files, read strictly: a key that stands twice is an error, and 4e-5 is a number.

A file of strangers is limited before anything is made of it: in its values, those that an alias repeats counted each time
(five hundred bytes of aliases to aliases mean a billion), and in how deep they lie in one another.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from detection.errors import MobileSSDError, quoted
from detection.files import read_text

MOST_VALUES = 100_000  # keys and values; the names of ImageNet's 21,841 classes with their numbers are 43,682
DEEPEST = 50  # levels; our own files have four


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence; here the second one is an error."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._values = self._level = 0
        self._sizes: dict[int, int] = {}  # of what an alias may repeat, by the id of its node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        before, alias, self._level = self._values, isinstance(event, yaml.AliasEvent), self._level + 1
        if self._level > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {DEEPEST} levels", event.start_mark)
        node = super().compose_node(parent, index)
        if alias:
            if id(node) not in self._sizes:
                raise yaml.composer.ComposerError(None, None, "an alias that holds itself", event.start_mark)
            self._values += self._sizes[id(node)]
        else:
            self._values += 1
            if getattr(event, "anchor", None) is not None:
                self._sizes[id(node)] = self._values - before
        if self._values > MOST_VALUES:
            problem = f"more than {MOST_VALUES:,} values, those that aliases repeat counted"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self._level -= 1
        return node

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


# YAML 1.1, which PyYAML reads, asks an exponent for a point and a sign, and takes 4e-5 for text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises MobileSSDError, one line with file and line number."""
    try:
        return parse_yaml(read_text(path), str(path))
    except FileNotFoundError:
        raise MobileSSDError(f"{path}: no such file") from None
    except (OSError, UnicodeError) as error:
        raise MobileSSDError(f"{path}: cannot be read as text ({error})") from None


def parse_value(text: str) -> Any:
    """What a YAML text says, be it a mapping or a single value. Raises yaml.YAMLError."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError:
        raise
    except Exception as error:  # a date of month 13, a number of 5000 digits, a set of lists
        raise yaml.YAMLError(f"a value that means nothing: {error}") from None


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """The mapping in a YAML text; `name` is what errors call it."""
    try:
        data = parse_value(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise MobileSSDError(f"{where}: no valid YAML ({reason})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise MobileSSDError(f"{name}: expected keys and values, found {quoted(data)}")
    return data
