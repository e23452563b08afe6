"""MobileNet V3 large and small (arXiv 1905.02244): inverted residuals, some with a channel gate, some with h-swish.

Blocks are numbered as torchvision's features[N], from 1; TF-OD's layer_{N+1} is block N. So "expand13" of large is
TF-OD's layer_14/expansion_output (672 channels, stride 16) and "expand9" of small its layer_10/expansion_output (288).
At stride 8 lie "expand7" (240) and "block6" (40) of large, "expand4" (96) and "block3" (24) of small.
"""

from collections.abc import Sequence

from .blocks import make_divisible
from .inverted import Block, InvertedBackbone, Plan
from .taps import check_alpha

# (kernel, expanded, channels, gate, h-swish, stride): the paper's Tables 1 and 2.
_LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
_SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
_TAIL = 3  # the last three blocks and the top are what the reduced tail halves


def plan_of_mobilenet_v3(
    size: str, *, alpha: float = 1.0, min_depth: int = 8, reduced_tail: bool = False, expand_by_ratio: bool = False
) -> Plan:
    """The layers of MobileNet V3 in numbers: `size` "large" or "small", the options those of `MobileNetV3`."""
    check_alpha(alpha)
    table = {"large": _LARGE, "small": _SMALL}[size]

    def width(channels: float) -> int:
        return make_divisible(channels * alpha, 8, min_depth)

    blocks = []
    before, before_scaled = 16, width(16)
    for number, (kernel, expanded, channels, gate, hswish, stride) in enumerate(table, start=1):
        from_the_end = len(table) - number  # the tail's first block narrows its output, the others also their expansion
        if reduced_tail and from_the_end < _TAIL:
            channels //= 2
            expanded //= 1 if from_the_end == _TAIL - 1 else 2
        inside = make_divisible(before_scaled * expanded / before) if expand_by_ratio else width(expanded)
        before, before_scaled = channels, width(channels)
        activation = "hswish" if hswish else "relu"
        blocks.append(Block(number, inside, before_scaled, stride, kernel, gate, activation))
    top = 6 * blocks[-1].channels
    usual = ("expand13" if size == "large" else "expand9", "top")
    return Plan(f"mobilenet_v3_{size}", width(16), tuple(blocks), top, "hswish", usual)


class MobileNetV3(InvertedBackbone):
    """MobileNet V3, `size` "large" or "small". Default taps: "expand13" (small: "expand9") and "top".

    Options: `alpha` the width of all layers; `expand_by_ratio` lets expansions follow from the rounded inputs of their
    blocks, as slim does (torchvision scales and rounds each by itself; at alpha 1 the two are one network); `min_depth`
    the least channels of a layer; `reduced_tail` half the channels of the last three blocks and the top (the paper's
    detectors); `padding` "same" or "symmetric"; `norm_eps`, `norm_momentum` (PyTorch's sense; torchvision's classifiers
    have 0.01).
    """

    def __init__(
        self,
        size: str,
        taps: Sequence[str] | None = None,
        *,
        alpha: float = 1.0,
        min_depth: int = 8,
        reduced_tail: bool = False,
        expand_by_ratio: bool = False,
        padding: str = "same",
        norm_eps: float = 0.001,
        norm_momentum: float = 0.03,
    ) -> None:
        plan = plan_of_mobilenet_v3(
            size, alpha=alpha, min_depth=min_depth, reduced_tail=reduced_tail, expand_by_ratio=expand_by_ratio
        )
        super().__init__(plan, taps, padding=padding, norm_eps=norm_eps, norm_momentum=norm_momentum)
