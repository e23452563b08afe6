"""Detections: what was found in one image, and the forms it takes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from detection.boxes.class_names import ClassNames
from detection.errors import MobileSSDError, need, printable
from detection.files import write_text

# What supervision, ultralytics and torchvision call these things: an AttributeError says our word.
ELSEWHERE = {
    "xyxy": "boxes", "confidence": "scores", "conf": "scores", "class_id": "class_ids", "cls": "class_ids",
    "labels": "names", "tracker_id": "track_ids", "id": "track_ids", "orig_img": "image", "orig_shape": "image_size",
    "data": "names", "save_txt": "to_yolo", "save_crop": "crop", "pandas": "to_pandas", "to_df": "to_pandas",
    "tojson": "to_json", "show": "plot", "render": "plot",
}  # fmt: skip
PREVIEW = 1024  # pixels of the longer side in a notebook


class Origin(Protocol):
    """The image that detections are of: the name of its file ("" where it has none), of a video's frame its number and
    seconds, and how to get at its pixels (uint8 RGB [H, W, 3])."""

    @property
    def name(self) -> str: ...
    @property
    def frame(self) -> int | None: ...
    @property
    def time(self) -> float | None: ...
    @property
    def in_memory(self) -> bool: ...

    def pixels(self) -> np.ndarray: ...

    def forgotten(self) -> Origin: ...


@dataclass(frozen=True, repr=False, eq=False)
class Detections:
    """The boxes found in one image, best score first.

    boxes: float32 [n, 4] `xyxy` in pixels of the image.  scores: float32 [n], 0..1.  class_ids: int64 [n], an index
    into class_names.  class_names: every class that the detector knows.  category_ids: the data set's id of each class
    (COCO: 1..90), in the order of class_names.  image_size: (height, width).
    track_ids: int64 [n] where a tracker has given them (-1: not yet), else None.
    origin: the image, where the detector was given it by itself; see `path` and `image`.
    """

    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    category_ids: tuple[int, ...] | None = None
    track_ids: np.ndarray | None = None
    origin: Origin | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: Any) -> Detections:
        """A part of them: by a boolean mask, a slice, an index, or a list of indices."""
        which = np.atleast_1d(np.arange(len(self))[which])
        tracks = None if self.track_ids is None else self.track_ids[which]
        chosen = self.boxes[which], self.scores[which], self.class_ids[which]
        return replace(self, boxes=chosen[0], scores=chosen[1], class_ids=chosen[2], track_ids=tracks)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_dict()["detections"])

    def __eq__(self, other: object) -> bool:
        """The same boxes, scores, classes and tracks in an image of the same size."""
        if not isinstance(other, Detections):
            return NotImplemented
        arrays = ("boxes", "scores", "class_ids", "track_ids")
        alike = self.image_size == other.image_size and self.class_names == other.class_names
        return alike and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        words = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names, self.scores))
        return printable(words) or "nothing"

    def __repr__(self) -> str:
        height, width = self.image_size
        where = f" in {os.path.basename(self.path)}" if self.path else ""
        if self.origin is not None and self.origin.frame is not None:
            where += f", frame {self.origin.frame}"
        return f"<{len(self)} detections{where}, {width} x {height}: {self.in_words(5)}>"

    def _repr_png_(self) -> bytes | None:
        """The image with its boxes, for a notebook; None where the image is not at hand."""
        from detection.boxes.drawing import encoded, reduced

        try:
            return encoded(reduced(self.plot(), PREVIEW), ".png")
        except MobileSSDError:
            return None

    if not TYPE_CHECKING:  # which would take every word for an attribute

        def __getattr__(self, name: str) -> Any:
            hint = f"; that is .{ELSEWHERE[name]} here" if name in ELSEWHERE else ""
            raise AttributeError(f"Detections has no attribute {name!r}{hint}")

    def in_words(self, most: int = 10) -> str:
        """`dog 0.82, person 0.61, and 3 more` for a line on the screen; `nothing` where nothing was found."""
        text = str(self[:most])
        return f"{text}, and {len(self) - most} more" if len(self) > most else text

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[i] for i in self.class_ids]

    @property
    def categories(self) -> np.ndarray:
        """The data set's id of each detection's class, int64 [n]; where it has none, the index into `class_names`."""
        return np.asarray(self.category_ids or range(len(self.class_names)), np.int64)[self.class_ids]

    @property
    def path(self) -> str:
        """The path or address of the image or video; "" where it has none."""
        return self.origin.name if self.origin is not None else ""

    @property
    def image(self) -> np.ndarray:
        """The image, uint8 RGB [H, W, 3]: as the detector was given it, or read again from its file. Raises MobileSSDError
        where it is not at hand (an item of a list made from a generator, a frame of a list made from a video)."""
        if self.origin is None:
            raise MobileSSDError("these detections know no image: give it, as in found.plot(image)")
        image = self.origin.pixels()
        if image.shape[:2] != tuple(self.image_size):
            raise MobileSSDError(f"{self.path or 'the image'}: has another size than when it was looked at")
        return image

    def filter(self, score: float | None = None, classes: str | int | Iterable[str | int] | None = None) -> Detections:
        """Those with a score of at least `score`, of the classes named (or given by their places in `class_names`). Raises
        MobileSSDError for a name that is none of `class_names`."""
        found = self if score is None else self.above(score)
        return found if classes is None else found.of_classes(classes)

    def above(self, score: float) -> Detections:
        """Those with a score of at least `score`."""
        return self[self.scores >= score]

    def of_classes(self, names: str | int | Iterable[str | int]) -> Detections:
        """Those of the named classes. Raises MobileSSDError for a name that is none of `class_names`."""
        return self[np.isin(self.class_ids, ClassNames(self.class_names).choose(names, "detections"))]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON: image_size, and a list of {name, class_id, score, box}."""
        found = [
            {"name": self.class_names[c], "class_id": c, "score": s, "box": box}
            for box, s, c in zip(rounded(self.boxes, 3), rounded(self.scores, 5), self.class_ids.tolist())
        ]
        if self.track_ids is not None:
            for one, track in zip(found, self.track_ids):
                one["track_id"] = int(track)
        return {"image_size": list(self.image_size), "detections": found}

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """`to_dict` as text, with `file`, `frame` and `time` where they are known; written to `path`, if one is given."""
        about: dict[str, Any] = {"file": self.path} if self.path else {}
        if self.origin is not None and self.origin.frame is not None and self.origin.time is not None:
            about |= {"frame": self.origin.frame, "time": round(self.origin.time, 3)}
        return _written(json.dumps(about | self.to_dict(), ensure_ascii=False), path)

    def to_coco(self, image_id: int | str = 1) -> list[dict[str, Any]]:
        """COCO results: a list of {image_id, category_id, bbox [x, y, width, height], score}."""
        sizes = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], 1)
        return [
            {"image_id": image_id, "category_id": category, "bbox": box, "score": s}
            for box, s, category in zip(rounded(sizes, 3), rounded(self.scores, 5), self.categories.tolist())
        ]

    def to_yolo(self, path: str | os.PathLike | None = None, scores: bool = False) -> str:
        """A YOLO label file: a line `class cx cy w h` for each box, in fractions of the image, `class` an index into
        `class_names`; with `scores` the score as a sixth number. Written to `path`, if one is given."""
        height, width = self.image_size
        corners = self.boxes.astype(np.float64) / [width, height, width, height]
        centres, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        lines = []
        for class_id, centre, size, score in zip(self.class_ids, centres, sizes, self.scores):
            numbers = [*centre, *size, score] if scores else [*centre, *size]
            lines.append(" ".join([str(int(class_id)), *(f"{number:.6f}" for number in numbers)]) + "\n")
        return _written("".join(lines), path)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, a row for each box: file, name, class_id, category_id, score, x1, y1, x2, y2 (the columns
        of Parquet shards), for a video's frame also frame and time, and track_id where there is tracking."""
        columns: dict[str, Any] = {"file": [self.path] * len(self)}
        if self.origin is not None and self.origin.frame is not None:
            columns |= {"frame": self.origin.frame, "time": self.origin.time}
        columns |= {"name": self.names, "class_id": self.class_ids, "category_id": self.categories}
        columns |= {"score": self.scores, **dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T))}
        if self.track_ids is not None:
            columns["track_id"] = self.track_ids
        return _package("pandas").DataFrame(columns)

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`, for that library's trackers, zones and annotators."""
        return _package("supervision").Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.copy(),
            tracker_id=None if self.track_ids is None else self.track_ids.copy(),
            data={"class_name": np.asarray(self.names, dtype=object)},
        )

    @classmethod
    def from_supervision(
        cls, theirs: Any, image_size: Sequence[int], class_names: Sequence[str] | None = None
    ) -> Detections:
        """Those of a `supervision.Detections`, best score first.

        image_size: (height, width), or the shape of the image. class_names: all classes, in the order of the ids; None:
        those that stand in its `class_name`, the others being called "class 3". Scores that it has not are 1, classes
        that it has not are 0.
        """
        count = len(theirs)
        scores = np.ones(count, np.float32) if theirs.confidence is None else np.asarray(theirs.confidence, np.float32)
        ids = np.zeros(count, np.int64) if theirs.class_id is None else np.asarray(theirs.class_id, np.int64)
        if class_names is None:
            names = dict(zip(ids.tolist(), map(str, theirs.data.get("class_name", ()))))
            class_names = [names.get(i, f"class {i}") for i in range(max(ids.tolist(), default=-1) + 1)]
        if count and not 0 <= ids.min() <= ids.max() < len(class_names):
            raise MobileSSDError(f"class_names: {len(class_names)} names do not reach class id {ids.max()}")
        tracks = None if theirs.tracker_id is None else np.asarray(theirs.tracker_id, np.int64)
        boxes = np.asarray(theirs.xyxy, np.float32).reshape(-1, 4)
        found = cls(boxes, scores, ids, tuple(class_names), (int(image_size[0]), int(image_size[1])), None, tracks)
        return found[np.argsort(-scores, kind="stable")]

    def label(self, index: int, score: bool = True) -> str:
        """What stands at a drawn box: `dog #3 0.82`."""
        text = self.class_names[self.class_ids[index]]
        if self.track_ids is not None and self.track_ids[index] >= 0:
            text += f" #{self.track_ids[index]}"
        return f"{text} {self.scores[index]:.2f}" if score else text

    def draw(
        self, image: np.ndarray, line_width: int | None = None, labels: bool = True, scores: bool = True
    ) -> np.ndarray:
        """A copy of the RGB image uint8 [H, W, 3] with the boxes, names and scores drawn on it.

        Each class has its own colour, the same in every image. Better scores lie on top. Otherwise as `draw_boxes`.
        """
        from detection.boxes.drawing import class_color, draw_boxes  # OpenCV is imported where somebody draws

        order = np.argsort(-self.scores, kind="stable")
        colors = [class_color(int(self.class_ids[index])) for index in order]
        texts = [self.label(index, scores) for index in order] if labels else None
        return draw_boxes(image, self.boxes[order], colors, texts, line_width=line_width)

    def plot(self, image: np.ndarray | None = None, **options: Any) -> np.ndarray:
        """`draw` on its own image, or on the one given: a new array, uint8 RGB."""
        return self.draw(self.image if image is None else image, **options)

    def save(self, path: str | os.PathLike, image: np.ndarray | None = None, **options: Any) -> Path:
        """Writes `plot` to a file (.jpg, .png, .webp), or into a folder under the image's own name; returns its path."""
        from detection.boxes.drawing import save_image

        target = Path(path)
        if target.is_dir() or not target.suffix:
            stem = Path(self.path).stem or "image"
            number = "" if self.origin is None or self.origin.frame is None else f"-{self.origin.frame:06d}"
            target = target / f"{stem}{number}.jpg"
        if self.path and os.path.exists(self.path) and os.path.exists(target) and os.path.samefile(self.path, target):
            raise MobileSSDError(f"{target}: is the image itself: name another file")
        save_image(self.plot(image, **options), target)
        return target

    def crop(self, image: np.ndarray | None = None, margin: float = 0.0) -> list[np.ndarray]:
        """What lies in each box, in their order: uint8 RGB arrays of at least one pixel. margin: what is added on each
        side, as a share of the box; the image's borders are never crossed."""
        image = self.image if image is None else image
        height, width = image.shape[:2]
        parts = []
        for x1, y1, x2, y2 in self.boxes.astype(float).tolist():
            across, down = margin * (x2 - x1), margin * (y2 - y1)
            left, top = (
                min(max(math.floor(v), 0), most - 1) for v, most in ((x1 - across, width), (y1 - down, height))
            )
            right, bottom = (min(math.ceil(v), most) for v, most in ((x2 + across, width), (y2 + down, height)))
            parts.append(image[top : max(bottom, top + 1), left : max(right, left + 1)].copy())
        return parts


def _package(name: str) -> Any:
    need(f"Detections.to_{name}", name)
    return import_module(name)


def _written(text: str, path: str | os.PathLike | None) -> str:
    if path is not None:
        write_text(path, text)
    return text


def rounded(values: np.ndarray, decimals: int) -> list:
    """float32 numbers as lists of Python's, each what `round` makes of it (their products with 10^5 are exact in float64),
    in a twentieth of the time."""
    return values.astype(np.float64).round(decimals).tolist()
