"""YAML files, read strictly: a key that stands twice is an error, and 4e-5 is a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from detection.errors import MobileSSDError, quoted
from detection.files import read_text


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
    return yaml.load(text, _Loader)  # a SafeLoader


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """The mapping in a YAML text; `name` is what errors call it."""
    try:
        data = parse_value(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise MobileSSDError(f"{where}: no valid YAML ({reason})") from None
    except RecursionError:
        raise MobileSSDError(f"{name}: is nested too deep") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise MobileSSDError(f"{name}: expected keys and values, found {quoted(data)}")
    return data
