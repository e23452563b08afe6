"""`--watch FILE.yaml`: lines and zones in a file that the page writes and people may edit.

    lines:
    - {name: door, source: front, points: [[0.5, 0], [0.5, 1]]}
    zones:
    - {name: desk, points: [[0, 0.5], [0.4, 0.5], [0.4, 1], [0, 1]]}

Points are fractions of the image, or pixels where one is above 1. Without `source` it is for every source.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from detection.config import build
from detection.errors import MobileSSDError, shown
from detection.files import write_text
from detection.live.gate_spec import KINDS, GateSpec, Point, check_together, checked
from detection.yaml_reader import parse_yaml

LARGEST = 256 << 10  # bytes; a hundred zones of a hundred points have room in it
HEAD = """# Lines and zones of `mobilessd live --watch`. The page writes this file anew with each change (comments are lost).
# Points are fractions of the image, or pixels where one is above 1; without a source it is for every source.
"""


@dataclass(frozen=True)
class Entry:
    """A line or zone as the file has it."""

    points: tuple[Point, ...]
    name: str = ""
    source: str = ""


@dataclass(frozen=True)
class Content:
    """The whole file."""

    lines: tuple[Entry, ...] = ()
    zones: tuple[Entry, ...] = ()


class NotWritten(MobileSSDError):
    """A change that could not be kept."""


class GateFile:
    """The file at `path`. It remembers what it has last read or written, so that the work of others is seen."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.name = shown(path)
        self._known: bytes | None = None

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def read(self) -> list[GateSpec]:
        """The lines and zones; none where there is no file yet. Raises MobileSSDError, one line with the file's name."""
        data = self._bytes()
        specs = parse_gates(data, self.name) if data is not None else []
        self._known = data
        return specs

    def changed(self) -> bool:
        """Whether somebody else has written it since."""
        return self._bytes() != self._known

    def write(self, specs: list[GateSpec]) -> None:
        """Writes it whole or not at all. Raises NotWritten, one line."""
        text = format_gates(specs)
        try:
            write_text(self.path.resolve(), text)
        except OSError as error:
            raise NotWritten(f"{self.name}: cannot be written: {error.strerror or error}") from None
        self._known = text.encode()

    def _bytes(self) -> bytes | None:
        try:
            with open(self.path, "rb") as file:
                data = file.read(LARGEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MobileSSDError(f"{self.name}: cannot be read: {error.strerror or error}") from None
        if len(data) > LARGEST:
            raise MobileSSDError(f"{self.name}: is larger than {LARGEST >> 10} KB: no file of lines and zones")
        return data


def parse_gates(data: bytes, name: str) -> list[GateSpec]:
    """The lines and zones of a file's bytes. Raises MobileSSDError, one line that begins with `name`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MobileSSDError(f"{name}: is no text in UTF-8") from None
    content = build(Content, parse_yaml(text, name), name)
    try:
        specs = []
        for kind, entries in zip(KINDS, (content.lines, content.zones)):
            for number, entry in enumerate(entries, 1):
                specs.append(checked(GateSpec(kind, entry.name or f"{kind} {number}", entry.points, entry.source)))
        check_together(specs)
    except MobileSSDError as error:
        raise MobileSSDError(f"{name}: {error}") from None
    return specs


def format_gates(specs: list[GateSpec]) -> str:
    """The file's text: a line for each. JSON's words are YAML's as well."""
    parts = [HEAD]
    for kind in KINDS:
        rows = [spec for spec in specs if spec.kind == kind]
        parts.append(f"{kind}s:{'' if rows else ' []'}\n")
        for spec in rows:
            points = ", ".join(f"[{x:.10g}, {y:.10g}]" for x, y in spec.points)
            source = f"source: {_word(spec.source)}, " if spec.source else ""
            parts.append(f"- {{name: {_word(spec.name)}, {source}points: [{points}]}}\n")
    return "".join(parts)


def _word(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
