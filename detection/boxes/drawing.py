"""Boxes, names and scores drawn on an image, and such an image in a file. Nothing is kept between calls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from detection.errors import MobileSSDError, printable
from detection.files import atomic_write

FONT = cv2.FONT_HERSHEY_DUPLEX  # OpenCV 5 draws it with a real typeface and all scripts; OpenCV 4 with strokes, ASCII
_TYPEFACE = int(cv2.__version__.partition(".")[0]) >= 5
SMALLEST_TEXT = 7  # pixels; below, letters are smudges and only the box is drawn
LONGEST = {".jpg": 65_500, ".jpeg": 65_500, ".png": 10**9, ".webp": 16_383}  # pixels of a side that a format can hold
QUALITY = 92  # of JPEG and WebP

Color = tuple[int, int, int]


class Area(NamedTuple):
    """Pixels x1 <= x < x2, y1 <= y < y2."""

    x1: int
    y1: int
    x2: int
    y2: int


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    colors: Sequence[Color],
    texts: Sequence[str] | None = None,
    dashed: Sequence[bool] | None = None,
    line_width: int | None = None,
) -> np.ndarray:
    """A copy of the image uint8 RGB [H, W, 3] with boxes float [n, 4] `xyxy` drawn on it, the first on top.

    colors: RGB of each. texts: what stands at each ("": nothing). dashed: whose frame is broken.
    Line and letters grow with the image, so that it looks alike on a thumbnail and at 12 megapixels; `line_width`
    overrides the line's. Labels dodge each other where there is room. Nothing is drawn where a box is not a number, or
    lies beside the image.
    """
    canvas = np.array(image, np.uint8)
    height, width = canvas.shape[:2]
    unit = math.sqrt(height * width)
    line = line_width or max(1, round(unit / 230))
    text_height = max(10, round(unit * 0.02))
    shown = []
    for index, box in enumerate(boxes):
        if (area := _pixels(box, width, height)) is not None:
            shown.append((index, area))
    for index, area in reversed(shown):
        _frame(canvas, area, line, colors[index], dash=4 * line if dashed is not None and dashed[index] else 0)
    placed: list[tuple[Area, str, float, Color]] = []
    texts = texts or [""] * len(boxes)
    for index, area in shown:
        size, scale = fit_text(texts[index], text_height, width) if texts[index] else ((0, 0), 0.0)
        if scale:
            spot = _free_spot(area, size, line, [other[0] for other in placed], (width, height))
            placed.append((spot, texts[index], scale, colors[index]))
    for spot, text, scale, color in reversed(placed):
        put_text(canvas, text, spot, scale, color)
    return canvas


def save_image(image: np.ndarray, path: Path, quality: int = QUALITY) -> None:
    """Writes uint8 RGB [H, W, 3] to `path`, atomically. quality: as of `encoded`. Raises MobileSSDError for an ending that is
    none of `LONGEST`, and for an image too long for it."""
    suffix = path.suffix.lower()
    if suffix not in LONGEST:
        raise MobileSSDError(
            f"{path}: an image is written as {', '.join(LONGEST)}, not as {suffix or 'a name without ending'}"
        )
    if max(image.shape) > LONGEST[suffix]:
        raise MobileSSDError(f"{path}: {suffix} holds at most {LONGEST[suffix]:,} pixels a side: name it .png")
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded(image, suffix, quality))


def encoded(image: np.ndarray, suffix: str, quality: int = QUALITY) -> bytes:
    """An image file of uint8 RGB [H, W, 3]; suffix: one of `LONGEST`. quality: 1 to 100, where the kind loses something."""
    options = {".png": [], ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality]}.get(
        suffix, [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    _, data = cv2.imencode(suffix, cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def reduced(image: np.ndarray, longest: int) -> np.ndarray:
    """The image, smaller where a side is longer than so many pixels."""
    return scaled_down(image, longest / max(image.shape[:2]))


def scaled_down(image: np.ndarray, factor: float) -> np.ndarray:
    """The image with its sides `factor` times as long, averaged, not skipped; itself where that would not be shorter."""
    if factor >= 1:
        return image
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=4096)
def class_color(class_id: int) -> Color:
    """The RGB colour of a class: neighbouring ids lie far apart on the wheel, and all are bright enough for black text.

    Hues advance by the golden angle in OkLCh (Ottosson 2020), where equal steps look equal; lightness takes turns.
    """
    hue = math.radians(29 + 137.508 * class_id)
    lightness = (0.72, 0.82, 0.64)[class_id % 3]
    a, b = 0.17 * math.cos(hue), 0.17 * math.sin(hue)
    # OkLab -> cone responses -> linear sRGB -> sRGB
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
    clipped = (min(max(value, 0.0), 1.0) for value in linear)
    red, green, blue = (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in clipped)
    return round(255 * red), round(255 * green), round(255 * blue)


def fit_text(text: str, height: int, room: int) -> tuple[tuple[int, int], float]:
    """((width, height) with padding, font scale) of a label whose letters are `height` pixels, or fewer if it would be
    wider than `room`. Scale 0: no room for letters that one could read.
    """
    text = printable(text)
    for pixels in (height, *range(height - 1, SMALLEST_TEXT - 1, -1)):
        scale = pixels / 27 * 1.25
        (wide, _), _ = cv2.getTextSize(text, FONT, scale, _stroke(scale))
        pad = max(2, round(pixels * 0.4))
        if wide + 2 * pad <= room:
            return (wide + 2 * pad, pixels + 2 * pad), scale
    return (0, 0), 0.0


def put_text(canvas: np.ndarray, text: str, spot: Area, scale: float, background: Color) -> None:
    """Writes `text` into the filled area `spot`, black or white, whichever reads better. Changes `canvas`."""
    text = printable(text)
    canvas[max(spot.y1, 0) : spot.y2, max(spot.x1, 0) : spot.x2] = background
    red, green, blue = background
    ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else (255, 255, 255)
    (_, tall), _ = cv2.getTextSize("A", FONT, scale, _stroke(scale))
    (wide, _), _ = cv2.getTextSize(text, FONT, scale, _stroke(scale))
    left = spot.x1 + (spot.x2 - spot.x1 - wide) // 2
    base = spot.y1 + (spot.y2 - spot.y1 + round(tall * 0.8)) // 2
    cv2.putText(canvas, text, (left, base), FONT, scale, ink, _stroke(scale), cv2.LINE_AA)


def _stroke(scale: float) -> int:
    # A typeface grows with its size by itself; strokes must be told to.
    return 1 if _TYPEFACE else max(1, round(scale))


def _pixels(box: np.ndarray, width: int, height: int) -> Area | None:
    """The pixels that a box covers inside the image, at least one; None where there is nothing to draw."""
    if not np.isfinite(box).all():
        return None
    x1, y1, x2, y2 = (float(value) for value in box)
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0 or x2 < x1 or y2 < y1:
        return None
    left, top = min(max(round(x1), 0), width - 1), min(max(round(y1), 0), height - 1)
    return Area(left, top, max(min(round(x2), width), left + 1), max(min(round(y2), height), top + 1))


def _frame(canvas: np.ndarray, area: Area, line: int, color: Color, dash: int = 0) -> None:
    """A frame inside the box's edges, with a dark rim on both sides: it shows on any ground. dash: pixels of a dash
    (gaps have three quarters of it); 0: an unbroken line."""
    rim = max(1, line // 3)
    x1, y1, x2, y2 = area
    outer = Area(max(x1 - rim, 0), max(y1 - rim, 0), x2 + rim, y2 + rim)
    for strip in _strips(outer, line + 2 * rim):
        for part in _dashes(strip, area, dash, rim):
            part_of = canvas[part.y1 : part.y2, part.x1 : part.x2]
            part_of[...] = part_of // 2
    for strip in _strips(area, line):
        for part in _dashes(strip, area, dash, 0):
            canvas[part.y1 : part.y2, part.x1 : part.x2] = color


def _dashes(strip: Area, frame: Area, dash: int, rim: int) -> Iterator[Area]:
    """The strip of a frame, cut into dashes that begin at the frame's corner and are longer by `rim` at both ends."""
    if not dash:
        yield strip
        return
    across = strip.x2 - strip.x1 >= strip.y2 - strip.y1
    first, low, high = (frame.x1, strip.x1, strip.x2) if across else (frame.y1, strip.y1, strip.y2)
    for begin in range(first, high, dash + dash * 3 // 4):
        start, end = max(begin - rim, low), min(begin + dash + rim, high)
        if start < end:
            yield Area(start, strip.y1, end, strip.y2) if across else Area(strip.x1, start, strip.x2, end)


def _strips(area: Area, line: int) -> tuple[Area, Area, Area, Area]:
    """The four sides of a frame of `line` pixels, each pixel once."""
    x1, y1, x2, y2 = area
    across, down = min(line, (x2 - x1 + 1) // 2), min(line, (y2 - y1 + 1) // 2)
    inner_top, inner_bottom = y1 + down, max(y2 - down, y1 + down)
    return (
        Area(x1, y1, x2, inner_top),
        Area(x1, inner_bottom, x2, y2),
        Area(x1, inner_top, x1 + across, inner_bottom),
        Area(max(x2 - across, x1 + across), inner_top, x2, inner_bottom),
    )


def _free_spot(box: Area, size: tuple[int, int], line: int, taken: list[Area], image: tuple[int, int]) -> Area:
    """Where a label of `size` goes: on the box, inside its top, below it, inside its bottom; the first that covers no
    other label, else the one that covers least. Always inside the image.
    """
    wide, tall = size
    width, height = image
    spots = []
    for left in (box.x1, box.x2 - wide):
        for top in (box.y1 - tall, box.y1 + line, box.y2, box.y2 - line - tall):
            x, y = min(max(left, 0), max(width - wide, 0)), min(max(top, 0), max(height - tall, 0))
            spots.append((y != top, Area(x, y, min(x + wide, width), min(y + tall, height))))
    spots.sort(key=lambda spot: spot[0])  # those that had to be pushed into the image last
    least, chosen = math.inf, spots[0][1]
    for _, spot in spots:
        covered = sum(_overlap(spot, other) for other in taken)
        if covered < least:
            least, chosen = covered, spot
        if not covered:
            break
    return chosen


def _overlap(a: Area, b: Area) -> int:
    if a.x1 >= b.x2 or b.x1 >= a.x2 or a.y1 >= b.y2 or b.y1 >= a.y2:
        return 0
    return (min(a.x2, b.x2) - max(a.x1, b.x1)) * (min(a.y2, b.y2) - max(a.y1, b.y1))
