"""What a line or zone is, before it counts: read and checked in one place for options, files and the page.

Standard library only.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from detection.errors import MobileSSDError, quoted

Point = tuple[float, float]

KINDS = ("line", "zone")
MASK = "motion-mask"
LONGEST_NAME = 40
MOST_POINTS = 100  # of a zone
MOST_GATES = 100  # of all sources together
FARTHEST = 100_000.0  # pixels; no image is larger
NOT_IN_NAMES = frozenset('<>&"`=/,\\')  # what would mean something in options, in --on, or in pages of others


@dataclass(frozen=True)
class GateSpec:
    """kind: "line" or "zone". points: of the line or polygon, in pixels, or in fractions of the image if none is
    above 1. source: the name of the source that it is for; empty: every one."""

    kind: str
    name: str
    points: tuple[Point, ...]
    source: str = ""

    def pixels(self, size: tuple[int, int]) -> list[Point]:
        """The points in pixels of an image of `size` (height, width)."""
        return points_in_pixels(self.points, size)

    def option(self) -> str:
        """`--line front/door=0.5,0,0.5,1`, quoted for a shell; `parse_gate` reads it back."""
        numbers = ",".join(f"{value:.10g}" for point in self.points for value in point)
        source = f"{self.source}/" if self.source else ""
        return f"--{self.kind} {shlex.quote(f'{source}{self.name}={numbers}')}"

    @property
    def words(self) -> str:
        """`zone 'desk'`, for messages."""
        return f"{self.kind} {quoted(self.name)}"


def points_in_pixels(points: Sequence[Point], size: tuple[int, int]) -> list[Point]:
    """Points in pixels, or in fractions of the image if none is above 1, in pixels of an image of `size` (height, width)."""
    height, width = size
    fractions = max(value for point in points for value in point) <= 1
    return [(x * width, y * height) if fractions else (x, y) for x, y in points]


def parse_gate(kind: str, text: str, number: int, sources: Sequence[str]) -> GateSpec:
    """`[SOURCE/][NAME=]x1,y1,x2,y2` for a line, three points or more for a zone; for a mask, which becomes a zone, two opposite
    corners as well. Raises MobileSSDError."""
    match = re.fullmatch(r"(?:(.+)/)?(?:([^=/]+)=)?([-+0-9., eE]+)", text.strip())
    said = f"--{kind} {quoted(text)}"
    try:
        if not match:
            raise ValueError
        values = [float(word) for word in match[3].split(",")]
        if len(values) % 2 or len(values) < 4:
            raise ValueError
    except ValueError:
        wanted, example = _WANTED[kind]
        raise MobileSSDError(
            f"{said} does not name {wanted}: write --{kind} {example}, in pixels or fractions of the image"
        ) from None
    source = match[1] or ""
    if source and source not in sources:
        raise MobileSSDError(f"{said}: there is no source {source!r}, only {', '.join(sources)}")
    points = tuple(zip(values[::2], values[1::2]))
    spec = GateSpec("zone" if kind == MASK else kind, match[2] or f"{kind} {number}", points, source)
    if kind == MASK and len(points) == 2:
        (x1, y1), (x2, y2) = points
        spec = replace(spec, points=((x1, y1), (x2, y1), (x2, y2), (x1, y2)))
    try:
        return checked(spec)
    except MobileSSDError as error:
        raise MobileSSDError(f"{said}: {error}") from None


_WANTED = {
    "line": ("two points", "0.5,0,0.5,1"),
    "zone": ("three points or more", "0,0,0.5,0,0.5,1,0,1"),
    MASK: ("two corners or more", "0,0,0.5,0.5"),
}


def checked(spec: GateSpec) -> GateSpec:
    """The spec, its name without blanks around it. Raises MobileSSDError, one line, for what cannot be one."""
    name, points = spec.name.strip(), spec.points
    if spec.kind not in KINDS:
        raise MobileSSDError(f"{quoted(spec.kind)} is neither a line nor a zone")
    if not name:
        raise MobileSSDError(f"a {spec.kind} needs a name")
    if len(name) > LONGEST_NAME:
        raise MobileSSDError(f"the name {quoted(name)} is longer than {LONGEST_NAME} characters")
    if not name.isprintable() or name.startswith("-") or NOT_IN_NAMES & set(name):
        unwanted = " ".join(sorted(NOT_IN_NAMES))
        raise MobileSSDError(
            f"the name {quoted(name)} is not plain text: leave out {unwanted} and a - at its beginning"
        )
    spec = replace(spec, name=name)
    if spec.kind == "line" and len(points) != 2:
        raise MobileSSDError(f"{spec.words} has {_count(points)}: a line has 2")
    if spec.kind == "zone" and not 3 <= len(points) <= MOST_POINTS:
        raise MobileSSDError(f"{spec.words} has {_count(points)}: a zone has 3 to {MOST_POINTS}")
    for value in (value for point in points for value in point):
        if not math.isfinite(value) or abs(value) > FARTHEST:
            raise MobileSSDError(f"{spec.words} has {value:g} among its points: no image reaches there")
    if points[0] == points[1] and spec.kind == "line":
        raise MobileSSDError(f"{spec.words} begins where it ends")
    if spec.kind == "zone" and _on_one_line(points):
        raise MobileSSDError(f"{spec.words} covers nothing: its points lie on one line")
    return spec


def check_together(specs: Iterable[GateSpec]) -> None:
    """Raises MobileSSDError where two of one source have one name, or there are too many."""
    specs = list(specs)
    if len(specs) > MOST_GATES:
        raise MobileSSDError(f"{len(specs)} lines and zones are more than {MOST_GATES}")
    seen: dict[str, list[GateSpec]] = {}
    for spec in specs:
        for other in seen.setdefault(spec.name, []):
            if spec.source == other.source or not spec.source or not other.source:
                raise MobileSSDError(f"there is a {other.words} already: give each its own name")
        seen[spec.name].append(spec)


def _count(points: Sequence[Point]) -> str:
    return f"{len(points)} point{'s' * (len(points) != 1)}"


def _on_one_line(points: Sequence[Point]) -> bool:
    (x0, y0) = points[0]
    far = max(points, key=lambda point: math.hypot(point[0] - x0, point[1] - y0))
    length = math.hypot(far[0] - x0, far[1] - y0)
    # Nearer than a millionth of its length is on the line: the coordinates themselves are no more exact.
    return all(abs((far[0] - x0) * (y - y0) - (far[1] - y0) * (x - x0)) <= 1e-6 * length * length for x, y in points)
