"""Detections: what was found in one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detection.boxes.class_names import ClassNames


@dataclass(frozen=True)
class Detections:
    """The boxes found in one image, best score first.

    boxes: float32 [n, 4] `xyxy` in pixels of the image.  scores: float32 [n], 0..1.  class_ids: int64 [n], an index
    into class_names.  class_names: every class that the detector knows.  category_ids: the data set's id of each class
    (COCO: 1..90), in the order of class_names.  image_size: (height, width).
    track_ids: int64 [n] where a tracker has given them (-1: not yet), else None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    category_ids: tuple[int, ...] | None = None
    track_ids: np.ndarray | None = None

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

    def __str__(self) -> str:
        return ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names, self.scores)) or "nothing"

    def in_words(self, most: int = 10) -> str:
        """`dog 0.82, person 0.61, and 3 more` for a line on the screen; `nothing` where nothing was found."""
        text = str(self[:most])
        return f"{text}, and {len(self) - most} more" if len(self) > most else text

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[i] for i in self.class_ids]

    def above(self, score: float) -> Detections:
        """Those with a score of at least `score`."""
        return self[self.scores >= score]

    def of_classes(self, names: list[str]) -> Detections:
        """Those of the named classes. Raises MobileSSDError for a name that is none of `class_names`."""
        return self[np.isin(self.class_ids, ClassNames(self.class_names).choose(names, "detections"))]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON: image_size, and a list of {name, class_id, score, box}."""
        found = [
            {"name": self.class_names[c], "class_id": int(c), "score": round(float(s), 5), "box": _round(box)}
            for box, s, c in zip(self.boxes, self.scores, self.class_ids)
        ]
        if self.track_ids is not None:
            for one, track in zip(found, self.track_ids):
                one["track_id"] = int(track)
        return {"image_size": list(self.image_size), "detections": found}

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """COCO results: a list of {image_id, category_id, bbox [x, y, width, height], score}."""
        ids = self.category_ids or range(len(self.class_names))
        sizes = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], 1)
        return [
            {"image_id": image_id, "category_id": int(ids[c]), "bbox": _round(box), "score": round(float(s), 5)}
            for box, s, c in zip(sizes, self.scores, self.class_ids)
        ]

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`, for that library's trackers, zones and annotators."""
        import supervision

        return supervision.Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.copy(),
            tracker_id=None if self.track_ids is None else self.track_ids.copy(),
            data={"class_name": np.asarray(self.names, dtype=object)},
        )

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


def _round(box: np.ndarray) -> list[float]:
    return [round(float(v), 3) for v in box]
