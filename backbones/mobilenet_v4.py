"""MobileNet V4's convolutional networks, small and medium (arXiv 2404.10518): universal inverted bottlenecks, ReLU.

The layers are those of timm's mobilenetv4_conv_small and _medium. Blocks are numbered from 0 over all stages, the plain
convolutions of the first ones included; taps as in `inverted`. "expand10" of small (576 channels) and "expand11" of medium
(960) are the expansions at stride 16, "expand4" (192) and "expand3" (480) those at stride 8.
"""

from collections.abc import Sequence
from typing import Literal

from .blocks import make_divisible
from .inverted import Block, InvertedBackbone, Plan
from .taps import check_alpha

STEM, TOP = 32, 960
# (channels, kernel, stride, expansion; None: a plain convolution), then (channels, start kernel, kernel, stride, expansion):
# the paper's appendix D, tables 11 and 12.
_FIRST: dict[str, tuple[tuple[int, int, int, int | None], ...]] = {
    "small": ((32, 3, 2, None), (32, 1, 1, None), (96, 3, 2, None), (64, 1, 1, None)),
    "medium": ((48, 3, 2, 4),),
}
_UNIVERSAL: dict[str, tuple[tuple[int, int, int, int, int], ...]] = {
    "small": (
        (96, 5, 5, 2, 3),
        *[(96, 0, 3, 1, 2)] * 4,
        (96, 3, 0, 1, 4),
        (128, 3, 3, 2, 6),
        (128, 5, 5, 1, 4),
        (128, 0, 5, 1, 4),
        (128, 0, 5, 1, 3),
        *[(128, 0, 3, 1, 4)] * 2,
    ),
    "medium": (
        (80, 3, 5, 2, 4),
        (80, 3, 3, 1, 2),
        (160, 3, 5, 2, 6),
        *[(160, 3, 3, 1, 4)] * 2,
        (160, 3, 5, 1, 4),
        (160, 3, 3, 1, 4),
        (160, 3, 0, 1, 4),
        (160, 0, 0, 1, 2),
        (160, 3, 0, 1, 4),
        (256, 5, 5, 2, 6),
        (256, 5, 5, 1, 4),
        *[(256, 3, 5, 1, 4)] * 2,
        (256, 0, 0, 1, 4),
        (256, 3, 0, 1, 4),
        (256, 3, 5, 1, 2),
        (256, 5, 5, 1, 4),
        *[(256, 0, 0, 1, 4)] * 2,
        (256, 5, 0, 1, 2),
    ),
}


def plan_of_mobilenet_v4(size: str, *, alpha: float = 1.0, min_depth: int = 8) -> Plan:
    """The layers in numbers: `size` "small" or "medium", the options those of `MobileNetV4`."""
    check_alpha(alpha)

    def width(channels: float) -> int:
        return make_divisible(channels * alpha, 8, min_depth)

    before = stem = STEM if alpha < 1 else width(STEM)
    blocks: list[Block] = []
    for channels, kernel, stride, factor in _FIRST[size]:
        inside = before if factor is None else make_divisible(before * factor)
        plain: Literal["conv", "fused"] = "conv" if factor is None else "fused"
        before = width(channels)
        blocks.append(Block(len(blocks), inside, before, stride, kernel, activation="relu", plain=plain))
    for channels, start, kernel, stride, expansion in _UNIVERSAL[size]:
        inside, before = make_divisible(before * expansion), width(channels)
        blocks.append(Block(len(blocks), inside, before, stride, kernel, activation="relu", start=start))
    usual = ("expand10" if size == "small" else "expand11", "top")
    return Plan(f"mobilenet_v4_conv_{size}", stem, tuple(blocks), width(TOP), "relu", usual)


class MobileNetV4(InvertedBackbone):
    """MobileNet V4 conv, `size` "small" or "medium". Default taps: the expansion at stride 16 ("expand10", medium:
    "expand11"), and "top".

    Options: `alpha` the width of all layers, below 1 of all but the stem (timm); `min_depth` the least channels of a layer;
    `padding` "same" or "symmetric"; `norm_eps`, `norm_momentum` (PyTorch's sense).
    """

    def __init__(
        self,
        size: str,
        taps: Sequence[str] | None = None,
        *,
        alpha: float = 1.0,
        min_depth: int = 8,
        padding: str = "same",
        norm_eps: float = 0.001,
        norm_momentum: float = 0.03,
    ) -> None:
        plan = plan_of_mobilenet_v4(size, alpha=alpha, min_depth=min_depth)
        super().__init__(plan, taps, padding=padding, norm_eps=norm_eps, norm_momentum=norm_momentum)
