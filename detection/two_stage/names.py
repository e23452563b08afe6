"""The two-stage detectors by name, and where their backbones are cut in two. Constants only, without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """Where a backbone is cut. last: its last tap; blocks: how many of its blocks reach stride 16; middle: their tap."""

    backbone: str
    last: str
    blocks: int
    middle: str


CUTS = {
    "faster_rcnn_mobilenet_v1": Cut("mobilenet_v1", "conv13", 11, "conv11"),
    "faster_rcnn_mobilenet_v2": Cut("mobilenet_v2", "top", 13, "block12"),
}
VGG = "faster_rcnn_vgg16"
NAMES = (*CUTS, VGG)
PROPOSALS = 300  # "evaluates 300 RPN proposal boxes per image", V1 paper, section 4.6
