"""Which anchor learns which box: matching by the rules of TensorFlow, Liu's Caffe and torchvision, for a whole batch.

Boxes here are `xyxy` in fractions of the input, anchors `cxcywh` in the same unit.
The overlaps of a batch are one dense tensor, worked off in parts of a bounded size: no loop over boxes or anchors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from detection.boxes.geometry import BoxCoder, area, to_xyxy
from detection.errors import MobileSSDError

# Elements of one overlap matrix: a CPU is fastest while it stays in the cache, a GPU wants few large kernels.
CPU_PART, GPU_PART = 1 << 18, 1 << 26


@dataclass(frozen=True)
class Targets:
    """What a batch of N images teaches A anchors.

    matched int64 [N, A]: position of the matched box in its image, -1 none; classes int64 [N, A]: 0..C-1, -1 none;
    scores float32 [N, A]: the score of the matched box, what the class column should say (0 none); boxes float32
    [N, A, 4]: the matched box, xyxy in fractions, and encodings float32 [N, A, 4] its code (both 0 where none);
    positive bool [N, A]; ignore bool [N, A]: neither positive nor negative; unknown bool [N, C] or None: classes that
    are not annotated in that image, whose columns get no loss as negatives.
    """

    matched: Tensor
    classes: Tensor
    scores: Tensor
    boxes: Tensor
    encodings: Tensor
    positive: Tensor
    ignore: Tensor
    unknown: Tensor | None = None

    @property
    def positives(self) -> Tensor:
        """The number of positive anchors of the batch, a float32 scalar."""
        return self.positive.sum().float()


@torch.no_grad()
def build_targets(
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor,
    ignore: Tensor,
    anchors: Tensor,
    *,
    unknown: Tensor | None = None,
    untrusted: Tensor | None = None,
    coder: BoxCoder = BoxCoder(),  # noqa: B008 (frozen)
    rule: str = "tf",
    threshold: float = 0.5,
    ignore_overlap: float = 0.5,
    untrusted_iou: float = 0.3,
) -> Targets:
    """Targets of a padded batch (`detection.train.input.batch.Batch`), on the device of its tensors.

    boxes float32 [N, M, 4] xyxy in fractions of the input; labels int64 [N, M], negative in the padding; scores float32
    [N, M] in 0..1 (pseudo-labels); ignore bool [N, M]: regions of which nothing is known; anchors float32 [A, 4] cxcywh;
    unknown bool [N, C] or None. rule: "tf", "liu" or "torchvision" (`RULES`); threshold: IoU that makes a match.

    An anchor of which more than `ignore_overlap` lies in an ignore region is no negative either, if it is not positive
    (intersection over the anchor's area, as mmdet's ignore_iof_thr: a crowd is larger than its members).
    untrusted bool [N, M] or None: boxes of a size that this input does not learn from. They match nothing, and an anchor
    whose IoU with one is above `untrusted_iou` is no negative (SNIP's rule; what lies within a large box is still
    background to small anchors).
    Raises MobileSSDError for an unknown rule.
    """
    if rule not in RULES:
        raise MobileSSDError(f"matcher {rule!r} is none of {', '.join(RULES)}")
    number, width = labels.shape
    if width == 0:  # no image has a box: one of padding keeps the shapes
        boxes, labels = boxes.new_zeros(number, 1, 4), labels.new_full((number, 1), -1)
        scores, ignore = scores.new_zeros(number, 1), ignore.new_zeros(number, 1)
        untrusted = None
    on_cpu = boxes.device.type == "cpu"
    used = (labels >= 0) | ignore
    if on_cpu and number:  # looking at the values would make a GPU wait
        width = max(int(used.any(0).nonzero().max()) + 1 if used.any() else 1, 1)
        boxes, labels, scores, ignore = boxes[:, :width], labels[:, :width], scores[:, :width], ignore[:, :width]
        untrusted = None if untrusted is None else untrusted[:, :width]
    if on_cpu and unknown is not None and not unknown.any():
        unknown = None
    part = max(1, (CPU_PART if on_cpu else GPU_PART) // (labels.shape[1] * len(anchors)))
    regions_anywhere = not on_cpu or bool(ignore.any())
    corners = to_xyxy(anchors)
    valid = (labels >= 0) & ~ignore
    doubted = torch.zeros_like(valid) if untrusted is None else valid & untrusted
    cover = ignore_overlap if regions_anywhere else None
    overlap = None if untrusted is None else untrusted_iou
    parts = (tensor.split(part) for tensor in (boxes, valid & ~doubted, ignore, doubted))
    found = [_match_part(b, v, r, d, corners, rule, threshold, cover, overlap) for b, v, r, d in zip(*parts)]
    matched, in_region = (torch.cat(tensors) for tensors in zip(*found))

    positive = matched >= 0
    index = matched.clamp(min=0)
    chosen = boxes.gather(1, index[..., None].expand(-1, -1, 4))
    encodings = coder.encode(chosen, anchors)
    here = positive[..., None]
    return Targets(
        matched=matched,
        classes=torch.where(positive, labels.gather(1, index), -1),
        scores=torch.where(positive, scores.gather(1, index).float(), 0.0),
        boxes=torch.where(here, chosen, 0.0),
        encodings=torch.where(here, encodings, 0.0),
        positive=positive,
        ignore=in_region & ~positive,
        unknown=unknown,
    )


def _match_part(
    boxes: Tensor,
    valid: Tensor,
    regions: Tensor,
    doubted: Tensor,
    corners: Tensor,
    rule: str,
    threshold: float,
    cover: float | None,
    overlap: float | None,
) -> tuple[Tensor, Tensor]:
    """Matches [n, A], and the anchors [n, A] inside ignore regions or upon doubted boxes, of some images."""
    shared = _intersections(boxes, corners)
    anchor_areas = area(corners)
    if cover is None:
        in_region = torch.zeros(len(boxes), len(corners), dtype=torch.bool, device=boxes.device)
    else:
        in_region = ((shared > cover * anchor_areas) & regions[..., None]).any(1)
    iou = shared.div_((area(boxes)[..., None] + anchor_areas).sub_(shared).clamp_(min=1e-12))
    if overlap is not None:
        in_region |= ((iou > overlap) & doubted[..., None]).any(1)
    iou.masked_fill_(~valid[..., None], -1.0)
    return RULES[rule](iou, valid, threshold), in_region


def _intersections(boxes: Tensor, corners: Tensor) -> Tensor:
    """Areas of overlap [n, M, A] of boxes [n, M, 4] and anchors [A, 4], both xyxy."""
    x1, y1, x2, y2 = (column[..., None] for column in boxes.unbind(-1))
    left, top, right, bottom = (column.contiguous() for column in corners.unbind(-1))
    width = torch.minimum(x2, right).sub_(torch.maximum(x1, left)).clamp_(min=0)
    height = torch.minimum(y2, bottom).sub_(torch.maximum(y1, top)).clamp_(min=0)
    return width.mul_(height)


def match_tf(iou: Tensor, valid: Tensor, threshold: float = 0.5) -> Tensor:
    """TensorFlow's ArgMaxMatcher(.5, .5, force_match_for_each_row=True) (argmax_matcher.py).

    Each anchor takes its best box if their IoU reaches the threshold; then each box claims its best anchor, whatever
    their IoU, even 0 (then it is anchor 0). Of several boxes that claim one anchor the first wins.

    iou float [N, M, A], -1 where a box is padding; valid bool [N, M] -> position of the box [N, A], -1 none.
    """
    return _claim(iou, valid, _per_anchor(iou, threshold), last_wins=False)


def match_torchvision(iou: Tensor, valid: Tensor, threshold: float = 0.5) -> Tensor:
    """torchvision's SSDMatcher (and mmdet's MaxIoUAssigner with gt_max_assign_all off): as TensorFlow's, but of several
    boxes that claim one anchor the last wins. Arguments and answer as `match_tf`."""
    return _claim(iou, valid, _per_anchor(iou, threshold), last_wins=True)


def match_liu(iou: Tensor, valid: Tensor, threshold: float = 0.5) -> Tensor:
    """Caffe SSD's PER_PREDICTION matching (bbox_util.cpp, MatchBBox): greedy bipartite, then per anchor.

    The best pair of all that are left, with an IoU above 1e-6, is taken again and again, each box and each anchor once;
    then every anchor that is left takes its best box if their IoU reaches the threshold. A box that touches no free
    anchor gets none. Arguments and answer as `match_tf`.

    The greedy order is not walked: a pair that is the best of its box and the best of its anchor is taken before all
    that could dispute it, so all such pairs are taken at once, and few rounds are enough. Ties go to the lower anchor,
    then to the lower box, as in Caffe.
    """
    matched = torch.full_like(iou[:, 0], -1, dtype=torch.int64)
    left = iou.masked_fill(iou <= 1e-6, -1.0)
    positions = torch.arange(iou.shape[1], device=iou.device)
    for _ in range(iou.shape[1]):
        value, claim = left.max(2)
        rivals = left.gather(
            2, claim[:, None].expand(-1, iou.shape[1], -1)
        )  # [N, M, M]: all boxes at the claimed anchors
        mutual = (rivals.max(1).indices == positions) & (value > 0)
        image, box = mutual.nonzero(as_tuple=True)
        if not len(image):
            break
        anchor = claim[image, box]
        matched[image, anchor] = box
        left[image, box] = -1.0
        left[image, :, anchor] = -1.0
    return torch.where(matched >= 0, matched, _per_anchor(iou, threshold))


def _per_anchor(iou: Tensor, threshold: float) -> Tensor:
    best, index = iou.max(1)
    return torch.where(best >= threshold, index, -1)


def _claim(iou: Tensor, valid: Tensor, matched: Tensor, last_wins: bool) -> Tensor:
    """`matched` [N, A], overwritten at each valid box's best anchor."""
    boxes = iou.shape[1]
    nobody = -1 if last_wins else boxes
    claimed = iou.max(2).indices
    names = torch.where(valid, torch.arange(boxes, device=iou.device), nobody)
    winner = torch.full_like(matched, nobody).scatter_reduce_(1, claimed, names, "amax" if last_wins else "amin")
    return torch.where(winner != nobody, winner, matched)


# The matching rules by name (FACTS of each framework stand in the functions' docstrings).
RULES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "tf": match_tf,
    "liu": match_liu,
    "torchvision": match_torchvision,
}
