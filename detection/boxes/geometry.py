"""Box geometry, and the coder between anchors and boxes. Works on numpy arrays and torch tensors alike.

Boxes in memory are float32 `xyxy`: x1, y1, x2, y2, the far edges exclusive (width = x2 - x1). Anchors are `cxcywh`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # a numpy array or a torch tensor; what comes out is of the kind that went in


def area(boxes: Array) -> Array:
    """Areas [...] of `xyxy` boxes [..., 4]; a reversed box has area 0."""
    return (boxes[..., 2] - boxes[..., 0]).clip(min=0) * (boxes[..., 3] - boxes[..., 1]).clip(min=0)


def intersection_matrix(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Areas of overlap [n, m] of two sets of `xyxy` boxes [n, 4] and [m, 4]."""
    near = np.maximum(boxes[:, None, :2], others[None, :, :2])
    far = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (far - near).clip(min=0).prod(-1)


def iou_matrix(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union [n, m] of two sets of `xyxy` boxes [n, 4] and [m, 4]; 0 where both are empty."""
    inter = intersection_matrix(boxes, others)
    union = area(boxes)[:, None] + area(others)[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def clip(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """`xyxy` boxes [..., 4] cut to an image of `height` x `width` (the same unit as the boxes)."""
    return np.stack(
        [
            boxes[..., 0].clip(0, width),
            boxes[..., 1].clip(0, height),
            boxes[..., 2].clip(0, width),
            boxes[..., 3].clip(0, height),
        ],
        -1,
    )


def to_xyxy(boxes: Array) -> Array:
    """`cxcywh` [..., 4] -> `xyxy` [..., 4]."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return _join(centre - half, centre + half)


def to_cxcywh(boxes: Array) -> Array:
    """`xyxy` [..., 4] -> `cxcywh` [..., 4]."""
    return _join((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2])


@dataclass(frozen=True)
class BoxCoder:
    """The centre-size box code of SSD (Liu et al. 2016, section 2.2).

    With variances (.1, .1, .2, .2) it is the code of Caffe, torchvision, mmdet and, after their (y, x, h, w) is put in
    our order, of TensorFlow, whose scale factors (10, 10, 5, 5) are the same numbers inverted.

    `max_log` clamps the decoded log sizes: torchvision uses ln(1000/16), nobody else clamps.
    """

    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    max_log: float | None = None

    def encode(self, boxes: Array, anchors: Array) -> Array:
        """`xyxy` boxes [..., 4] and `cxcywh` anchors [..., 4], same unit -> encodings (tx, ty, tw, th) [..., 4].

        Sizes are kept above 1e-8, as TensorFlow does, so that no logarithm is infinite.
        """
        wanted, (vx, vy, vw, vh) = to_cxcywh(boxes), self.variances
        size = wanted[..., 2:].clip(min=1e-8)
        shift = (wanted[..., :2] - anchors[..., :2]) / anchors[..., 2:]
        growth = _log(size / anchors[..., 2:])
        return _stack(shift[..., 0] / vx, shift[..., 1] / vy, growth[..., 0] / vw, growth[..., 1] / vh)

    def decode(self, encodings: Array, anchors: Array) -> Array:
        """Encodings (tx, ty, tw, th) [..., 4] and `cxcywh` anchors [..., 4] -> `xyxy` boxes [..., 4], unclipped."""
        vx, vy, vw, vh = self.variances
        width, height = encodings[..., 2] * vw, encodings[..., 3] * vh
        if self.max_log is not None:
            width, height = width.clip(max=self.max_log), height.clip(max=self.max_log)
        half_w, half_h = _exp(width) * anchors[..., 2] / 2, _exp(height) * anchors[..., 3] / 2
        cx = encodings[..., 0] * vx * anchors[..., 2] + anchors[..., 0]
        cy = encodings[..., 1] * vy * anchors[..., 3] + anchors[..., 1]
        return _stack(cx - half_w, cy - half_h, cx + half_w, cy + half_h)


TORCHVISION_MAX_LOG = math.log(1000 / 16)


def _exp(x: Array) -> Array:
    return np.exp(x) if isinstance(x, np.ndarray) else x.exp()


def _log(x: Array) -> Array:
    return np.log(x) if isinstance(x, np.ndarray) else x.log()


def _stack(*columns: Array) -> Array:
    if isinstance(columns[0], np.ndarray):
        return np.stack(columns, -1)
    import torch  # already loaded by whoever made the tensor

    return torch.stack(columns, -1)


def _join(*halves: Array) -> Array:
    if isinstance(halves[0], np.ndarray):
        return np.concatenate(halves, -1)
    import torch

    return torch.cat(halves, -1)
