"""Makes a data set fit to train on: what cannot be used is left out, what can be put right is put right, all is
counted.

`repair` is the one place where this happens; the loader repeats its box part, which
costs nothing, so that no faulty box reaches a loss by any way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from detection.data.dataset import DetectionData
from detection.data.faults import Faults
from detection.data.image_files import Header, read_header
from detection.errors import BadDataError, BadImageError
from detection.images.decode import read_image

SMALLEST = 0.01  # pixels: a narrower box has no width
SAME_SHAPE = 0.01  # aspects that differ by less were resized, not exchanged


@dataclass(frozen=True)
class Headers:
    """What `read_headers` found. sizes int32 [P, 2] as displayed (0, 0 where there is no image), orientations [P]."""

    sizes: np.ndarray
    orientations: np.ndarray
    faults: Faults


def read_headers(data: DetectionData, decode: bool = False, threads: int = 8) -> Headers:
    """The head of every image file (0.1 ms each; `decode`: all of it, some 10 ms each)."""
    faults = Faults()

    def look(path: str) -> Header | str:
        try:
            header = read_header(path)
            if decode:
                read_image(path)
            return header
        except FileNotFoundError:
            return ""
        except BadImageError as error:
            return str(error)

    sizes, orientations = np.zeros((len(data), 2), np.int32), np.ones(len(data), np.uint8)
    with ThreadPoolExecutor(threads) as pool:
        for i, found in enumerate(pool.map(look, data.paths)):
            if isinstance(found, Header):
                sizes[i], orientations[i] = (found.height, found.width), found.orientation
            elif found:
                faults.add("unreadable", found)
            else:
                faults.add("missing", data.path(i))
    return Headers(sizes, orientations, faults)


def repair(data: DetectionData, headers: Headers | None = None) -> tuple[DetectionData, Faults]:
    """(the data that can be trained on, all that was wrong). Images that are missing, unreadable or of another shape
    than annotated are left out; `sizes` become those of the files, and boxes follow.

    An image that EXIF turns, while the annotation holds the size before turning, was annotated by a tool that ignores
    EXIF: its boxes are turned along. One of the annotated shape but another size was resized: its boxes are scaled.
    Raises BadDataError where nothing is left, or no box of any class.
    """
    headers = headers or read_headers(data)
    faults = headers.faults.merged()
    data, lost = _match_sizes(data, headers, faults)
    data = replace(data, faults=data.faults.merged(faults)).subset(~lost)
    if not len(data):
        shown = "; ".join(examples[0] for examples in data.faults.examples.values() if examples)
        raise BadDataError(f"{data.origin}: no image that can be used ({shown})")
    data = clean_boxes(data)
    if not data.targets.any():
        raise BadDataError(f"{data.origin}: no box to learn from in {len(data)} images; wrong folder or class names?")
    return data, data.faults


def clean_boxes(data: DetectionData) -> DetectionData:
    """The box part of `repair`, vectorised: afterwards every box is finite, of a known class, inside its image and
    has a width and a height. IGNORE regions may have no class. Faults are added to `data.faults`."""
    boxes, owners, faults = data.boxes.copy(), data.owners(), data.faults.merged()

    def report(kind: str, mask: np.ndarray) -> None:
        rows = np.flatnonzero(mask)
        faults.add_all(kind, len(rows), (f"{data.path(owners[i])}: {_show(data.boxes[i])}" for i in rows))

    finite = np.isfinite(boxes).all(1)
    report("not finite", ~finite)
    boxes[~finite] = 0
    reversed_ = finite & ((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))
    report("reversed", reversed_)
    near, far = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    flat = finite & ((far - near) < SMALLEST).any(1)
    report("degenerate", flat)
    limit = data.sizes[owners][:, ::-1].astype(np.float32)  # (width, height)
    limit[limit == 0] = np.inf  # the size is not known yet
    outside = finite & ~flat & ((near >= limit - SMALLEST) | (far <= SMALLEST)).any(1)
    report("outside", outside)
    clipped = np.concatenate([np.clip(near, 0, limit), np.clip(far, 0, limit)], 1)
    beyond = np.abs(clipped - np.concatenate([near, far], 1)).max(1, initial=0) > 0.5  # less is rounding
    report("clipped", beyond & finite & ~flat & ~outside)
    odd_score = ~((data.scores >= 0) & (data.scores <= 1))
    report("bad score", odd_score)
    scores = np.clip(np.nan_to_num(data.scores, nan=0.0), 0, 1) if odd_score.any() else data.scores
    known = (data.labels >= 0) | ((data.flags & 4) != 0)  # those without a class were counted by the reader
    kept = finite & ~flat & ~outside & known
    kept &= (clipped[:, 2:] - clipped[:, :2] >= SMALLEST).all(1)
    report("duplicate box", kept & _repeated(clipped, data.labels, owners))
    return replace(data, boxes=clipped.astype(np.float32), scores=scores, faults=faults).keep_boxes(kept)


def _match_sizes(data: DetectionData, headers: Headers, faults: Faults) -> tuple[DetectionData, np.ndarray]:
    """Boxes brought into the frame of the image files; bool [P]: images that cannot be used."""
    real, annotated = headers.sizes, data.sizes
    lost = (real == 0).any(1)
    known = ~lost & (annotated > 0).all(1)
    off = np.abs(real - annotated).max(1)
    differs = known & (off > 2)  # one or two pixels are rounding of somebody's resize
    turned = differs & (headers.orientations >= 5) & (np.abs(real[:, ::-1] - annotated).max(1) <= 2)
    aspect = real[:, 0] * annotated[:, 1].astype(float), real[:, 1] * annotated[:, 0].astype(float)
    resized = differs & ~turned & (np.abs(aspect[0] - aspect[1]) <= SAME_SHAPE * np.maximum(*aspect))
    wrong = differs & ~turned & ~resized

    def examples(mask: np.ndarray) -> list[str]:
        return [
            f"{data.path(i)}: annotated {annotated[i][1]} x {annotated[i][0]}, is {real[i][1]} x {real[i][0]}"
            for i in np.flatnonzero(mask)[:20]
        ]

    for kind, mask in (("size contradicts", wrong), ("resized", resized), ("exif turned", turned)):
        faults.add_all(kind, int(mask.sum()), examples(mask))
    boxes = data.boxes.copy()
    for i in np.flatnonzero(resized):
        rows = slice(data.starts[i], data.starts[i + 1])
        boxes[rows] *= np.tile(real[i][::-1] / annotated[i][::-1].astype(np.float32), 2)
    for i in np.flatnonzero(turned):
        rows = slice(data.starts[i], data.starts[i + 1])
        boxes[rows] = turn_boxes(boxes[rows], annotated[i], int(headers.orientations[i]))
    return replace(data, sizes=np.where(lost[:, None], annotated, real), boxes=boxes.astype(np.float32)), lost | wrong


def turn_boxes(boxes: np.ndarray, size: Sequence[int], orientation: int) -> np.ndarray:
    """Boxes [n, 4] in a stored image of `size` (height, width) -> in the image that EXIF's `orientation` shows."""
    height, width = (float(side) for side in size)
    point: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] = {
        1: lambda x, y: (x, y),
        2: lambda x, y: (width - x, y),
        3: lambda x, y: (width - x, height - y),
        4: lambda x, y: (x, height - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (height - y, x),
        7: lambda x, y: (height - y, width - x),
        8: lambda x, y: (y, width - x),
    }[orientation]
    ax, ay = point(boxes[:, 0], boxes[:, 1])
    bx, by = point(boxes[:, 2], boxes[:, 3])
    return np.stack([np.minimum(ax, bx), np.minimum(ay, by), np.maximum(ax, bx), np.maximum(ay, by)], 1)


def _repeated(boxes: np.ndarray, labels: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """bool [B]: boxes that an earlier one of the same image and class equals to a hundredth of a pixel."""
    keys = np.column_stack([owners, labels, np.round(boxes.astype(np.float64), 2)])
    _, first = np.unique(keys, axis=0, return_index=True)
    mask = np.ones(len(boxes), bool)
    mask[first] = False
    return mask


def _show(box: np.ndarray) -> str:
    return "box " + ", ".join(f"{side:.6g}" for side in box)
