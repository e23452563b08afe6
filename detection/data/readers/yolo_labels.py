"""YOLO's .txt files: where the one of an image lies, and what a line says.

A line is `class cx cy w h` in fractions of the image; with a sixth number, the score of a pseudo-label. With more numbers it
is an outline (`class x1 y1 x2 y2 x3 y3 ...`) or a pose (`class cx cy w h`, then keypoints): of both, the box is taken. Numbers
that are pixels, no fractions, are no label.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detection.data.folders import Listing

FAR = 2  # fractions do not reach further: numbers that do are pixels
Corners = tuple[float, float, float, float]


class LabelFinder:
    """Finds the .txt of an image: that of `.../images/a/b.jpg` is `.../labels/a/b.txt`, else the one beside the image; of an
    image that is reached through a link, also where the link leads. `.TXT` is the same."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self._real: dict[str, str] = {}

    def find(self, image: str | os.PathLike) -> str | None:
        """The file, or None where there is none."""
        path = os.fspath(image)
        if found := self._look(path):
            return found
        folder, name = os.path.split(path)
        real = self._real.setdefault(folder, os.path.realpath(folder))
        if real != os.path.abspath(folder) and (found := self._look(os.path.join(real, name))):
            return found
        return self._look(os.path.realpath(path)) if os.path.islink(path) else None

    def of_another_kind(self, image: str | os.PathLike) -> str | None:
        """An annotation of this image that is no .txt (labelme's, VOC's), or None."""
        folder, name = os.path.split(image)
        stem = os.path.splitext(name)[0]
        names = (self.listing.find(folder, stem + ending) for ending in (".xml", ".json"))
        return next((os.path.join(folder, found) for found in names if found), None)

    @staticmethod
    def usual(image: str | os.PathLike) -> str:
        """Where the .txt of an image belongs, whether it is there or not."""
        parts = list(Path(image).parts)
        for i in range(len(parts) - 2, -1, -1):
            if parts[i].lower() == "images":
                parts[i] = "labels"
                break
        return os.path.splitext(os.path.join(*parts))[0] + ".txt"

    def _look(self, image: str) -> str | None:
        for place in (self.usual(image), os.path.splitext(image)[0] + ".txt"):
            folder, name = os.path.split(place)
            if found := self.listing.find(folder, name):
                return os.path.join(folder, found)
        return None


def keypoints_of(config: dict[str, Any]) -> tuple[int, int] | None:
    """(keypoints, numbers of each) of a data.yaml that describes poses (`kpt_shape`), else None."""
    shape = config.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape):
        return shape[0], shape[1]
    return None


def parse(line: str, keypoints: tuple[int, int] | None = None) -> tuple[int, Corners, float] | None:
    """A line -> (class, (x1, y1, x2, y2) in fractions, score), or None where it is no label.

    keypoints: see `keypoints_of`. Without it, a line is a pose where each third number of its keypoints is a visibility (0,
    1 or 2) and the keypoints that are there lie in the box.
    """
    try:
        kind, *values = map(float, line.split())
        if kind != int(kind):
            return None
    except (ValueError, OverflowError):
        return None
    number = len(values)
    if any(abs(value) > FAR for value in values[:4]):
        return None
    if number in (4, 5) or _is_pose(values, keypoints):
        cx, cy, w, h = values[:4]
        return int(kind), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), values[4] if number == 5 else 1.0
    if number >= 6 and number % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        return int(kind), (min(xs), min(ys), max(xs), max(ys)), 1.0
    return None


def _is_pose(values: Sequence[float], keypoints: tuple[int, int] | None) -> bool:
    extra = len(values) - 4
    if keypoints is not None:
        return extra == keypoints[0] * keypoints[1]
    if extra < 3 or extra % 3 or any(seen not in (0, 1, 2) for seen in values[6::3]):
        return False
    cx, cy, w, h = values[:4]
    points = [(x, y) for x, y, seen in zip(values[4::3], values[5::3], values[6::3]) if seen]
    near = 0.1  # keypoints may lie a little outside
    return all(abs(x - cx) <= w * (0.5 + near) and abs(y - cy) <= h * (0.5 + near) for x, y in points)
