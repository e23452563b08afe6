"""Boxes, lines, zones and numbers drawn on the image. OpenCV through `detection.boxes.drawing`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from detection.boxes.detections import Detections
from detection.boxes.drawing import Area, class_color, draw_boxes, fit_text, put_text
from detection.live.zones import Gate

DARK = (24, 24, 28)
WHITE = (255, 255, 255)
WARNING = (255, 196, 0)


def draw_tracked(image: np.ndarray, detections: Detections) -> np.ndarray:
    """A copy of the frame, uint8 RGB, with boxes, names, scores, and the numbers of what is being tracked."""
    tracks = detections.track_ids if detections.track_ids is not None else np.full(len(detections), -1)
    texts = [
        f"{name} #{track} {score:.2f}" if track >= 0 else f"{name} {score:.2f}"
        for name, track, score in zip(detections.names, tracks, detections.scores)
    ]
    colors = [class_color(int(class_id)) for class_id in detections.class_ids]
    return draw_boxes(image, detections.boxes, colors, texts)


def draw_gates(canvas: np.ndarray, gates: Sequence[Gate]) -> None:
    """Draws lines and zones with their counts, and an arrow to the side where a line's "in" is. Changes `canvas`, uint8 RGB."""
    height, width = canvas.shape[:2]
    unit = math.sqrt(height * width)
    thick, tall = max(1, round(unit / 300)), max(10, round(unit * 0.02))
    for gate in gates:
        points = np.array(gate.spec.pixels((height, width)))
        for color, more in ((DARK, 2), (WHITE, 0)):
            cv2.polylines(
                canvas, [np.round(points).astype(np.int32)], gate.kind == "zone", color, thick + more, cv2.LINE_AA
            )
        if gate.kind == "line":
            _arrow(canvas, points, thick, 1.3 * tall)
        text = f"{gate.name}: {gate.counts}"
        size, scale = fit_text(text, tall, width)
        if scale and size[1] <= height:
            x, y = _label_middle(gate.kind, points, size, thick)
            left = int(min(max(x - size[0] / 2, 0), width - size[0]))
            top = int(min(max(y - size[1] / 2, 0), height - size[1]))
            put_text(canvas, text, Area(left, top, left + size[0], top + size[1]), scale, WHITE)


def _label_middle(kind: str, points: np.ndarray, size: tuple[int, int], thick: int) -> tuple[float, float]:
    """Above a zone; beside a line, where its arrow is not."""
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2
    if kind == "zone":
        return float(middle[0]), float(low[1] - size[1] / 2 - thick)
    away = -_inwards(points)
    x, y = middle + away * (np.abs(away) @ np.array(size) / 2 + 3 * thick)
    return float(x), float(y)


def _inwards(points: np.ndarray) -> np.ndarray:
    """The way of length 1 from a line to the side where "in" is: its right-hand one (zones.Gate counts so)."""
    dx, dy = points[1] - points[0]
    return np.array([-dy, dx]) / max(math.hypot(dx, dy), 1e-9)


def _arrow(canvas: np.ndarray, points: np.ndarray, thick: int, length: float) -> None:
    middle = points.mean(0)
    ends = [tuple(int(round(value)) for value in end) for end in (middle, middle + length * _inwards(points))]
    for color, more in ((DARK, 2), (WHITE, 0)):
        cv2.arrowedLine(canvas, ends[0], ends[1], color, thick + more, cv2.LINE_AA, tipLength=0.4)


def put_status(canvas: np.ndarray, lines: Sequence[str], color: tuple[int, int, int] = DARK) -> None:
    """Writes lines into the upper left corner, as far as there is room for them. Changes `canvas`."""
    height, width = canvas.shape[:2]
    top = 0
    for text in lines:
        size, scale = fit_text(text, max(10, round(math.sqrt(height * width) * 0.02)), width)
        if not scale or top + size[1] > height:
            return
        put_text(canvas, text, Area(0, top, size[0], top + size[1]), scale, color)
        top += size[1]


def stale_image(image: np.ndarray, message: str) -> np.ndarray:
    """A copy of a last frame that nobody can take for what is there now: grey, dark, and with the reason on it."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) // 2
    put_status(grey, [message], WARNING)
    return grey
