"""What a reader has found so far: images and their objects, in columns, until they become a `DetectionData`."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detection.data.build import build
from detection.data.dataset import IGNORE, UNKNOWN_LABEL, DetectionData
from detection.data.faults import Faults


@dataclass(frozen=True)
class Object:
    """name: of its class, "" where there is none. box: x1, y1, x2, y2 in pixels, far edges exclusive. flags: CROWD, DIFFICULT,
    IGNORE. score: of a prediction."""

    name: str
    box: tuple[float, float, float, float]
    flags: int = 0
    score: float = 1.0


class Columns:
    """A row of paths and sizes for each image, one of the rest for each object. Whoever fills it counts in `faults`, and adds
    to `class_names` the names that no object may have."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.class_names: set[str] = set()
        self.paths: list[str | os.PathLike] = []
        self.sizes: list[tuple[int, int]] = []
        self.doubtful: list[int] = []
        self.owners, self.boxes, self.flags = array("q"), array("d"), array("B")
        self.scores = array("d")
        self.names: list[str] = []

    def add(
        self,
        path: str | os.PathLike,
        objects: Iterable[Object] = (),
        size: tuple[int, int] = (0, 0),
        doubtful: bool = False,
    ) -> None:
        """An image. size: (height, width), 0 where unknown. doubtful: an object was there that could not be read."""
        for one in objects:
            self.owners.append(len(self.paths))
            self.boxes.extend(one.box)
            self.flags.append(one.flags | (0 if one.name else IGNORE))
            self.names.append(one.name)
            self.scores.append(one.score)
        if doubtful:
            self.doubtful.append(len(self.paths))
        self.sizes.append(size)
        self.paths.append(path)

    def finish(self, source: str, origin: str, class_names: Sequence[str] = ()) -> DetectionData:
        """The data set. class_names: the classes in the data set's own order; the others follow, sorted."""
        listed = list(dict.fromkeys(class_names))
        listed += sorted(self.class_names - set(listed))
        number = {name: i for i, name in enumerate(listed)} | {"": UNKNOWN_LABEL}
        return build(
            listed,
            self.paths,
            np.array(self.owners),
            np.array(self.boxes).reshape(-1, 4),
            np.array([number[name] for name in self.names], np.int64),
            sizes=self.sizes,
            flags=np.array(self.flags),
            scores=np.array(self.scores),
            doubtful=self.doubtful,
            source=source,
            origin=origin,
            faults=self.faults,
        )
