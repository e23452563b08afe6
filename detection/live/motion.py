"""Where something moves: a running background of a frame at an eighth of its size. OpenCV and numpy.

Each small pixel has a mean and a mean deviation, which is the camera's noise there; what differs by more than that noise
explains has moved. A change of the whole frame's brightness (a cloud, the camera's exposure) is taken off first. What comes
to rest belongs to the background after some seconds, what was there and goes away shows as moving for as long.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from detection.live.gate_spec import MASK, Point, parse_gate, points_in_pixels

Region = tuple[float, float, float, float]

REDUCED = 8  # the background's scale: 1/8 of each side
TAU = 2.0  # seconds in which the background takes over most of what is there now
NOISE_TAU = 10.0  # seconds, of the deviation
LEAST, NOISES = 6.0, 6.0  # grey levels, and mean deviations, by which a small pixel must differ
FEWEST = 3  # small pixels that must have moved together: at an eighth, a person of 24 x 48 pixels has 18
MARGIN = 3  # small pixels around what has moved that belong to it
HOLD = 1.0  # seconds after the last motion that still count as moving
LOOKS = 8.0  # frames a second that are compared while nothing moves: an eighth of a second until somebody is seen
GIVEN = 2.0  # frames a second that are given on while nothing moves


def masks_of(texts: Sequence[str], source: str, sources: Sequence[str]) -> list[tuple[Point, ...]]:
    """Of `--motion-mask [SOURCE/]x,y,x,y,...` those of a source; two points are corners of a rectangle. MobileSSDError."""
    specs = [parse_gate(MASK, text, number, sources) for number, text in enumerate(texts, 1)]
    return [spec.points for spec in specs if spec.source in ("", source)]


class Motion:
    """What moves in the frames of one source. masks: polygons where motion does not
    count, in pixels, or in fractions of the image if none is above 1. seconds are of any one clock."""

    def __init__(self, masks: Sequence[Sequence[Point]] = ()) -> None:
        self._masks = [tuple((float(x), float(y)) for x, y in points) for points in masks]
        self._mean = self._noise = self._free = np.zeros((0, 0), np.float32)
        self._compared = self._given = -np.inf
        self._recent: list[tuple[float, Region]] = []  # what has moved within HOLD: (when, where)

    def wants(self, seconds: float) -> bool:
        """Whether a frame of now is to be compared: all while something moves, else LOOKS a second."""
        return bool(self._recent) or seconds - self._compared >= 0.9 / LOOKS or seconds < self._compared

    def gives(self, seconds: float) -> bool:
        """Whether a frame in which nothing moves is to be given on; to be asked once a frame."""
        if 0 <= seconds - self._given < 0.9 / GIVEN:
            return False
        self._given = seconds
        return True

    def compare(self, image: np.ndarray, seconds: float) -> list[Region]:
        """What has moved within the last second, `xyxy` in pixels of the frame; nothing where nothing has.

        image: uint8 RGB or BGR [H, W, 3], or what `reduced` made of it beforehand, which `compare_reduced` takes."""
        return self.compare_reduced(reduced(image), (image.shape[0], image.shape[1]), seconds)

    def compare_reduced(self, small: np.ndarray, size: tuple[int, int], seconds: float) -> list[Region]:
        """As `compare`. small: uint8 grey, about an eighth; size: (height, width) of the frame."""
        grey = small.astype(np.float32)
        height, width = size
        passed = seconds - self._compared
        self._compared = seconds
        if grey.shape != self._mean.shape or passed < 0:
            self._begin(grey, size)
            self._recent = [(seconds, (0.0, 0.0, float(width), float(height)))]
        else:
            across, down = width / grey.shape[1], height / grey.shape[0]
            for x1, y1, x2, y2 in self._moved(grey, passed):
                self._recent.append((seconds, (x1 * across, y1 * down, x2 * across, y2 * down)))
        self._recent = [(when, region) for when, region in self._recent if 0 <= seconds - when <= HOLD]
        return [region for _, region in self._recent]

    def _begin(self, grey: np.ndarray, size: tuple[int, int]) -> None:
        self._mean, self._noise = grey.copy(), np.full(grey.shape, 1.0, np.float32)
        self._free = np.full(grey.shape, 255, np.uint8)
        rows, columns = grey.shape
        for points in self._masks:
            scaled = np.array(points_in_pixels(points, size)) * [columns / size[1], rows / size[0]]
            cv2.fillPoly(self._free, [np.round(np.clip(scaled, -1e4, 1e4)).astype(np.int32)], 0)

    def _moved(self, grey: np.ndarray, passed: float) -> list[tuple[int, int, int, int]]:
        """Boxes in small pixels. The background goes on by `passed` seconds."""
        brighter = np.median((grey[::4, ::4] + 1) / (self._mean[::4, ::4] + 1))
        away = cv2.absdiff(grey, self._mean * np.float32(np.clip(brighter, 0.5, 2.0)))
        moved = cv2.compare(away, cv2.max(self._noise * NOISES, LEAST), cv2.CMP_GT)
        moved = cv2.bitwise_and(moved, self._free)
        still = cv2.bitwise_not(moved)
        cv2.accumulateWeighted(grey, self._mean, _part(passed, TAU))
        cv2.accumulateWeighted(away, self._noise, _part(passed, NOISE_TAU), still)
        if cv2.countNonZero(moved) < FEWEST:
            return []
        kernel = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
        count, labels, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(moved, kernel))
        pixels = np.bincount(labels[moved > 0], minlength=count)
        return [(x, y, x + w, y + h) for (x, y, w, h, _), n in zip(boxes[1:].tolist(), pixels[1:]) if n >= FEWEST]


class Sieve:
    """Which frames of a live source are worth decoding, and which to be given on. on: whether it sifts at all, at any time,
    from any thread."""

    def __init__(self, masks: Sequence[Sequence[Point]], on: bool) -> None:
        self.on = on
        self._motion = Motion(masks)

    def wants(self, seconds: float) -> bool:
        """Whether a frame of now is to be decoded."""
        return not self.on or self._motion.wants(seconds)

    def keeps(self, small: np.ndarray, size: tuple[int, ...], seconds: float) -> tuple[bool, list[Region] | None]:
        """(whether a frame is to be given on, where something moves in it, None where that is not asked).

        small: the frame at an eighth of its `size` (height, width), uint8 grey."""
        if not self.on:
            return True, None
        moved = self._motion.compare_reduced(small, (size[0], size[1]), seconds)
        return bool(moved) or self._motion.gives(seconds), moved


def reduced(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> grey, an eighth of each side: the mean of all pixels, which leaves an eighth of their noise."""
    size = max(image.shape[1] // REDUCED, 1), max(image.shape[0] // REDUCED, 1)
    return cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), size, interpolation=cv2.INTER_AREA)


def _part(passed: float, tau: float) -> float:
    return float(1 - np.exp(-min(passed, 10 * tau) / tau))
