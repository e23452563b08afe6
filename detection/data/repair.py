"""Makes a data set fit to train and evaluate on: what cannot be used is left out, what can be put right is put right,
all is counted.

`repair` is the one place where this happens; the loader repeats its box part, which costs nothing, so that no faulty box
reaches a loss by any way.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from detection.data.dataset import IGNORE, DetectionData
from detection.data.faults import Faults
from detection.data.frames import match_frames
from detection.data.image_files import Header, read_header
from detection.errors import BadDataError, BadImageError
from detection.images.decode import decode_image, decoded_bytes, read_file
from detection.images.memory import DECODING, Memory

SMALLEST = 0.01  # pixels: a narrower box has no width


@dataclass(frozen=True)
class Headers:
    """What `read_headers` found. sizes int32 [P, 2] as displayed (0, 0 where there is no image), orientations [P]."""

    sizes: np.ndarray
    orientations: np.ndarray
    faults: Faults


def read_headers(data: DetectionData, decode: bool = False, threads: int = 8) -> Headers:
    """The head of every image file (0.1 ms each; `decode`: all of it, some 10 ms each)."""
    faults, memory = Faults(), Memory(DECODING)

    def look(path: str) -> Header | str:
        try:
            if not path:
                return ""
            header = read_header(path)
            if decode:
                data = read_file(path)
                with memory.held(decoded_bytes(data)):
                    decode_image(data, path)
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
                faults.add("missing", data.path(i) or f"{data.described(i)} has no file name")
    return Headers(sizes, orientations, faults)


def repair(
    data: DetectionData, headers: Headers | None = None, for_evaluation: bool = False
) -> tuple[DetectionData, Faults]:
    """(the data to train or evaluate on, all that was wrong). Images that are missing, unreadable or of another shape
    than annotated are left out; `sizes` become those of the files, and boxes and areas follow (see `frames`).

    for_evaluation: images that cannot be read stay (a detector that cannot read them misses their objects), and data
    without any object may be as they are. Raises BadDataError where nothing is left.
    """
    headers = headers or read_headers(data)
    faults = Faults() if for_evaluation else headers.faults.merged()
    unread = (headers.sizes == 0).any(1)
    data, wrong = match_frames(data, headers.sizes, headers.orientations, faults)
    data = replace(data, faults=data.faults.merged(faults))
    if (lost := wrong if for_evaluation else wrong | unread).any():
        data = replace(data.subset(~lost), left_out=tuple(data.image_ids[lost].tolist()))
    if not len(data):
        raise BadDataError(f"{data.origin}: no image that can be used ({'; '.join(data.faults.brief())})")
    data = clean_boxes(data)
    if not data.targets.any() and not (for_evaluation and ((data.labels >= 0).any() or not data.faults.lost)):
        reason = "; ".join(data.faults.brief()) or "wrong folder or class names?"
        use = "evaluate" if for_evaluation else "learn from"
        # the file is named in front: its folder once more for each loss would leave no room in one line
        reason = (
            reason.replace(f"{os.path.dirname(str(data.origin))}{os.sep}", "") if os.sep in str(data.origin) else reason
        )
        raise BadDataError(f"{data.origin}: no box to {use} in {len(data)} images ({reason})")
    return data, data.faults


def clean_boxes(data: DetectionData) -> DetectionData:
    """The box part of `repair`, vectorised: afterwards every box is finite, of a known class, inside its image and
    has a width and a height. IGNORE regions may have no class. Faults are added to `data.faults`."""
    boxes, owners, faults = data.corners(), data.owners(), data.faults.merged()

    def report(kind: str, mask: np.ndarray) -> None:
        rows = np.flatnonzero(mask)
        faults.add_all(kind, len(rows), (f"{data.described(owners[i])}: {_show(data.boxes[i])}" for i in rows))

    finite = np.isfinite(data.boxes).all(1) & np.isfinite(boxes).all(1)
    report("not finite", ~finite)
    boxes[~finite] = 0
    reversed_ = finite & ((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))
    report("reversed", reversed_)
    near, far = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    flat = finite & ((far - near) < SMALLEST).any(1)
    report("degenerate", flat)
    limit = data.sizes[owners][:, ::-1].astype(np.float64)  # (width, height)
    limit[limit == 0] = np.inf  # the size is not known yet
    outside = finite & ~flat & ((near >= limit - SMALLEST) | (far <= SMALLEST)).any(1)
    report("outside", outside)
    clipped = np.concatenate([np.clip(near, 0, limit), np.clip(far, 0, limit)], 1)
    beyond = np.abs(clipped - np.concatenate([near, far], 1)).max(1, initial=0) > 0.5  # less is rounding
    report("clipped", beyond & finite & ~flat & ~outside & (data.labels >= 0))
    odd_score = ~((data.scores >= 0) & (data.scores <= 1))
    report("bad score", odd_score)
    scores = np.clip(np.nan_to_num(data.scores, nan=0.0), 0, 1) if odd_score.any() else data.scores
    known = (data.labels >= 0) | ((data.flags & IGNORE) != 0)  # those without a class were counted by the reader
    sides = clipped[:, 2:] - clipped[:, :2]
    kept = finite & ~flat & ~outside & known & (sides >= SMALLEST).all(1)
    report("duplicate box", kept & _repeated(clipped, data.labels, owners))
    changed, inside = reversed_ | beyond, sides.prod(1)
    areas = np.where(changed & ~((data.areas > 0) & (data.areas <= inside)), inside, data.areas)
    return replace(data.with_corners(clipped, changed), scores=scores, areas=areas, faults=faults).keep_boxes(kept)


def _repeated(boxes: np.ndarray, labels: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """bool [B]: boxes that an earlier one of the same image and class equals to a hundredth of a pixel."""
    keys = np.column_stack([owners, labels, np.round(boxes.astype(np.float64), 2)])
    _, first = np.unique(keys, axis=0, return_index=True)
    mask = np.ones(len(boxes), bool)
    mask[first] = False
    return mask


def _show(box: np.ndarray) -> str:
    return "box " + ", ".join(f"{side:.6g}" for side in box)
