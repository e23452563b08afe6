"""Views: the same weights looking at an image at several scales, in tiles, mirrored; their boxes merged into one answer.

A view is a region of the image, the size of the network that sees it, and which of its boxes are trusted. The idea of
trusting a range of box sizes from each scale is that of SNIP (Singh and Davis 2018, arXiv 1711.08189); tiles with an
overlap are those of SAHI (Akyon et al. 2022, arXiv 2202.06934).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from detection.boxes.anchors import Size
from detection.boxes.detections import Detections
from detection.boxes.postprocess import PostSettings, merged
from detection.errors import MobileSSDError
from detection.images.preprocess import stretch

TRUST = (
    180.0  # network pixels: of larger boxes (square root of the area) a smaller view knows more; 140 to 220 do as well
)
OVERLAP = 0.4  # of neighbouring tiles, as a share of a tile. SAHI has 0.2; AP50 in 4K frames: .39 at 0.2, .40 at 0.3, .44 at 0.4
GRID_OVERLAP = 0.57  # of a grid such as 2x2, where few tiles are to see most things whole: each side of 2x2 is 0.7
EDGE = 0.02  # share of a tile within which a box counts as cut by its border (AP with 2x2: .233 at 0.01, .237, .236 at 0.03)
# What an inner border cut is the same object as a whole box whose part in the view overlaps it by this IoU, and which has
# this share of its score: the best AP50 of both classes in 20 frames of COCO's that are not those of docs/detect.md.
PART_IOU = 0.6
PART_SURE = 0.75
LEVEL = 1.5  # times the side of a tile: an image that is no larger than that needs no such tiles beside the whole of it
MOST_TILES = 400
MOST_IN_TILES = 1000  # detections of an image in tiles at the network's own scale
AUTO = "auto"  # of `mobilessd live`: as many views as a frame has time for
TURN = "turn:"  # of `mobilessd live`: one tile a frame
GRAMMAR = "views are written as in 300,512 (scales), tiles, 2x2, 3x2@0.2, tiles@0.2 (overlap), mirror, joined with +"


@dataclass(frozen=True)
class View:
    """region: (x1, y1, x2, y2) in whole pixels of the image. size: (height, width) of the network's input. most: the
    largest box that is trusted, the square root of its area in network pixels. inner: which borders (left, top, right,
    bottom) have more of the image behind them. mirrored: left and right are exchanged. keeps_cut: a box that an inner border
    cuts is dropped only where another view has the whole of it (`_alone`)."""

    region: tuple[int, int, int, int]
    size: Size
    most: float = math.inf
    inner: tuple[bool, bool, bool, bool] = (False, False, False, False)
    mirrored: bool = False
    keeps_cut: bool = False

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """What the network sees of uint8 RGB [H, W, 3]: uint8 [h, w, 3]."""
        seen = stretch(self._cut(image), self.size)
        return np.ascontiguousarray(seen[:, ::-1]) if self.mirrored else seen

    def part(self, image: np.ndarray) -> np.ndarray:
        """The same as large as it is in the image, for a network with a resize of its own."""
        part = self._cut(image)
        return np.ascontiguousarray(part[:, ::-1]) if self.mirrored else part

    def window(self, image_size: Size) -> np.ndarray:
        """Its region in fractions of an image of (height, width): `xyxy` [4]."""
        height, width = image_size
        return np.array(self.region) / [width, height, width, height]

    def _cut(self, image: np.ndarray) -> np.ndarray:
        x1, y1, x2, y2 = self.region
        return image[y1:y2, x1:x2]

    def trusted(self, boxes: np.ndarray, image_size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Boxes `xyxy` [n, 4] in fractions of the view -> (in fractions of the image, which of them are trusted)."""
        x1, y1, x2, y2 = self.region
        height, width = image_size
        sides = boxes[:, 2:] - boxes[:, :2]
        good = np.sqrt(sides.prod(1) * (self.size[0] * self.size[1])) <= self.most
        if self.mirrored:
            boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1)
        for side, inner in enumerate(self.inner):
            if inner:
                good &= boxes[:, side] > EDGE if side < 2 else boxes[:, side] < 1 - EDGE
        scale = np.array([x2 - x1, y2 - y1] * 2, np.float32)
        shift = np.array([x1, y1] * 2, np.float32)
        return (boxes * scale + shift) / np.array([width, height] * 2, np.float32), good


@dataclass(frozen=True)
class _Term:
    """One part of a plan. size: pixels of a whole view, None for the network's own. columns, rows: 0 for as many as the
    image needs to be seen at the network's scale."""

    kind: Literal["whole", "mirror", "tiles"]
    size: int | None = None
    columns: int = 0
    rows: int = 0
    overlap: float = OVERLAP


@dataclass(frozen=True)
class Plan:
    """What `--views` says. text: as it was written."""

    text: str
    terms: tuple[_Term, ...]

    @property
    def plain(self) -> bool:
        """Whether this is one pass over the whole image at the network's own size."""
        return self.terms == (_Term("whole"),)

    def rules(self) -> dict[str, Any]:
        """What post-processing is set to where nothing else is asked for: all that is said of views was measured with
        voting, and a large frame holds more than the objects of one image."""
        crowded = any(term.kind == "tiles" and not term.columns for term in self.terms)
        return {"merge": "vote", **({"max_detections": MOST_IN_TILES} if crowded else {})}

    def sizes(self, own: Size) -> list[Size]:
        """The input sizes that are needed, the network's own first where it is among them."""
        found = {_of(term, own): None for term in self.terms}
        return sorted(found, key=lambda size: (size != own, size))

    def views(self, image_size: Size, own: Size) -> list[View]:
        """The views of an image of (height, width), the whole image always among them; own: the network's input size.
        Tiles of an image that is no larger than one are none."""
        height, width = image_size
        whole = (0, 0, width, height)
        scales = sorted({_of(term, own) for term in self.terms if term.kind == "whole"} or {own})
        found = [View(whole, size, math.inf if size == scales[0] else TRUST) for size in scales]
        for term in self.terms:
            if term.kind == "mirror" and not any(view.mirrored for view in found):
                found += [replace(view, mirrored=True) for view in found if not view.mirrored and view.region == whole]
            if term.kind == "tiles":
                for columns, rows in (
                    [(term.columns, term.rows)] if term.columns else _levels(image_size, own, term.overlap)
                ):
                    if columns * rows > MOST_TILES:
                        raise MobileSSDError(
                            f"views {self.text}: {columns} x {rows} tiles of an image of {width} x {height} pixels, more"
                            f" than {MOST_TILES}; less overlap, as in tiles@0.2, or a grid, as in 6x4"
                        )
                    if columns * rows > 1:
                        found += _grid(image_size, columns, rows, term.overlap, own, not term.columns)
        return found


def joined(views: str | None, tiles: str | None) -> str | None:
    """What `--views` and `--tiles` say together, as `parse` reads it; None where neither is given. Raises MobileSSDError, one
    line, where `tiles` names something else."""
    if tiles is None:
        return views
    if not all(re.match(r"tiles|\d+x\d", part) for part in re.split(r"[+,]", tiles.replace(" ", ""))):
        raise MobileSSDError(
            f"tiles {tiles}: tiles are written as in 2x2, 3x2@0.2 (overlap) or tiles; scales go into views"
        )
    return f"{views or 1}+{tiles}"


def parse(text: str) -> Plan:
    """A plan from `300,512+2x2`. Raises MobileSSDError, one line, for what cannot be understood."""
    if text == AUTO or text.startswith(TURN):
        raise MobileSSDError(f"views {text}: that is for moving images, with `mobilessd live`; {GRAMMAR}")
    terms = []
    for part in re.split(r"[+,]", text.replace(" ", "")):
        grid = re.fullmatch(r"(?:tiles|([1-9]\d{0,5})x([1-9]\d{0,5}))(?:@(\d*\.?\d+))?", part)
        if part == "1":
            terms.append(_Term("whole"))
        elif part == "mirror":
            terms.append(_Term("mirror"))
        elif re.fullmatch(r"\d{2,4}", part):
            if int(part) < 32:
                raise MobileSSDError(f"views {text}: {part} pixels are too few for a network; {GRAMMAR}")
            terms.append(_Term("whole", int(part)))
        elif grid:
            usual = GRID_OVERLAP if grid[1] else OVERLAP
            overlap = usual if grid[3] is None else float(grid[3])
            if overlap > 0.9:
                raise MobileSSDError(f"views {text}: an overlap of {overlap:g} of a tile is too much; at most 0.9")
            columns, rows = int(grid[1] or 0), int(grid[2] or 0)
            if columns * rows > MOST_TILES:
                raise MobileSSDError(f"views {text}: {columns} x {rows} tiles are more than {MOST_TILES}")
            terms.append(_Term("tiles", None, columns, rows, overlap))
        else:
            raise MobileSSDError(f"views {text}: {part!r} is no view; {GRAMMAR}")
    return Plan(text, tuple(terms))


def of_one_view(settings: PostSettings) -> PostSettings:
    """The rules by which candidates of a single view are chosen before all views are merged."""
    if settings.merge == "soft":  # softened once, all views together: of each view every candidate
        return replace(settings, merge="nms", iou=1.0, max_detections=4 * settings.max_detections)
    return settings


def merge_views(
    views: Sequence[View], found: Sequence[Detections], settings: PostSettings, image_size: Size
) -> Detections:
    """As `merge_boxes`, of detections as of an image of 1 x 1 pixels."""
    boxes, scores, class_ids = merge_boxes(
        views, [(one.boxes, one.scores, one.class_ids) for one in found], settings, image_size
    )
    return Detections(boxes, scores, class_ids, found[0].class_names, image_size, found[0].category_ids)


def merge_boxes(
    views: Sequence[View],
    found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    settings: PostSettings,
    image_size: Size,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [n, 4] `xyxy` in fractions of the view, scores [n] and class ids [n] of each view -> those of the image, its boxes
    in pixels. Overlapping boxes of one class, of whichever views, are merged by the rules (`postprocess.merged`).

    What an inner border cuts is dropped. In tiles at the network's own scale, where the whole image shows little, that is only
    so where another view has the whole (20 frames of 4K: 95.0 % of the people and cars that tiles by hand find, without 93.4,
    AP50 .569 and .380 beside .568 and .378; with 2x2 on COCO it costs AP: .267 to .257 on 250 images)."""
    height, width = image_size
    boxes, kept = zip(*(view.trusted(one[0], image_size) for view, one in zip(views, found)))
    together, good = np.concatenate(boxes), np.concatenate(kept)
    scores, class_ids = (np.concatenate([one[k] for one in found]) for k in (1, 2))
    if any(view.keeps_cut for view in views):
        windows = np.concatenate([np.repeat(v.window(image_size)[None], len(b), 0) for v, b in zip(views, boxes)])
        asked = ~good & np.concatenate([np.full(len(b), v.keeps_cut) for v, b in zip(views, boxes)])
        good = good | _alone(together, scores, class_ids, windows.astype(np.float32), asked, good)
    order = np.flatnonzero(good)
    order = order[np.argsort(-scores[order], kind="stable")]
    kept_boxes, kept_scores, kept_ids = merged(together[order], scores[order], class_ids[order], settings)
    return kept_boxes.clip(0, 1) * np.array([width, height] * 2, np.float32), kept_scores, kept_ids


def _alone(
    boxes: np.ndarray,
    scores: np.ndarray,
    class_ids: np.ndarray,
    windows: np.ndarray,
    asked: np.ndarray,
    good: np.ndarray,
) -> np.ndarray:
    """Which [n] of the boxes [n, 4] that are `asked` for, cut by an inner border, are of no object that a `good` box of their
    class shows whole: none of these is much the same within the window [n, 4] of the cut one's view, and about as sure."""
    alone = np.zeros(len(boxes), bool)
    for class_id in np.unique(class_ids[asked]):
        cut, whole = (np.flatnonzero(some & (class_ids == class_id)) for some in (asked, good))
        for start in range(0, len(cut), 256):
            mine = cut[start : start + 256]
            window, box, other = windows[mine, None], boxes[mine, None], boxes[None, whole]
            low, high = np.maximum(other[..., :2], window[..., :2]), np.minimum(other[..., 2:], window[..., 2:])
            shared = (np.minimum(high, box[..., 2:]) - np.maximum(low, box[..., :2])).clip(0).prod(-1)
            areas = (high - low).clip(0).prod(-1) + (box[..., 2:] - box[..., :2]).prod(-1)
            same = shared >= PART_IOU * (areas - shared)
            alone[mine] = ~(same & (scores[None, whole] >= PART_SURE * scores[mine, None])).any(1)
    return alone


def _of(term: _Term, own: Size) -> Size:
    return own if term.size is None else (term.size, term.size)


def _tiles(length: int, tile: int, overlap: float) -> int:
    """How many tiles of `tile` pixels cover `length`."""
    return max(1, math.ceil((length - tile * overlap) / (tile * (1 - overlap)))) if length > tile else 1


def _levels(image_size: Size, tile: Size, overlap: float) -> list[tuple[int, int]]:
    """Columns and rows of tiles as large as the network's input, then of twice that side, and so on while a tile is clearly
    smaller than the image: what no tile of one level holds whole, and is too small in the whole image, is seen by the next."""
    found, factor = [], 1
    while factor == 1 or any(LEVEL * factor * side < length for side, length in zip(tile, image_size)):
        rows, columns = (_tiles(length, factor * side, overlap) for length, side in zip(image_size, tile))
        found.append((columns, rows))
        factor *= 2
    return found


def _grid(image_size: Size, columns: int, rows: int, overlap: float, size: Size, keeps_cut: bool) -> list[View]:
    """Tiles of equal size that overlap by that share of a tile, row by row."""
    height, width = image_size

    def spans(length: int, count: int) -> list[tuple[int, int]]:
        side = min(length, math.ceil(length / (count - (count - 1) * overlap)))
        return [(round(i * (length - side) / max(count - 1, 1)), side) for i in range(count)]

    return [
        View(
            (x, y, x + wide, y + high), size,
            inner=(x > 0, y > 0, x + wide < width, y + high < height), keeps_cut=keeps_cut,
        )
        for y, high in spans(height, rows)
        for x, wide in spans(width, columns)
    ]  # fmt: skip
