"""MobileNet V2 (arXiv 1801.04381): inverted residuals with linear bottlenecks.

Blocks are numbered as TensorFlow's expanded_conv_N, from 0. So "expand13" is expanded_conv_13/expand/Relu6 (576
channels, stride 16), "block12" the 96 channels before it, "expand6" and "block5" their like at stride 8 (192 and 32
channels), and TF-OD's layer_4, layer_7, layer_14, layer_19 are "block2", "block5", "block12", "top".
"""

from collections.abc import Sequence

from .blocks import make_divisible
from .inverted import Block, InvertedBackbone, Plan
from .taps import check_alpha

# (expansion factor t, channels c, repeats n, stride s) of the paper's Table 2.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def plan_of_mobilenet_v2(
    *,
    alpha: float = 1.0,
    min_depth: int = 8,
    round_to: int = 8,
    scale_top: bool = False,
    keras_residuals: bool = False,
    activation: str = "relu6",
) -> Plan:
    """The layers of MobileNet V2 in numbers; the options are those of `MobileNetV2`."""
    check_alpha(alpha)

    def width(channels: float) -> int:
        if round_to == 1:  # qfgaohao: cut off, not rounded
            return max(int(channels), min_depth)
        return make_divisible(channels, round_to, min_depth)

    stem = before = width(32 * alpha)
    blocks: list[Block] = []
    for factor, channels, repeats, stride in _STAGES:
        for repeat in range(repeats):
            expanded = before if factor == 1 else make_divisible(before * factor, round_to)
            residual = not keras_residuals or before == make_divisible(int(channels * alpha), round_to)
            before = width(channels * alpha)
            step = stride if repeat == 0 else 1
            blocks.append(Block(len(blocks), expanded, before, step, activation=activation, residual=residual))
    top = width(1280 * (alpha if scale_top else max(alpha, 1.0)))
    return Plan("mobilenet_v2", stem, tuple(blocks), top, activation)


class MobileNetV2(InvertedBackbone):
    """MobileNet V2. Options: `alpha` the width; `min_depth` the least channels of a layer, expansions excepted (8 in
    the classifiers, 16 in TF-OD's detectors); `round_to` what channels are rounded to (1: cut to whole numbers, as
    qfgaohao); `scale_top` lets a width below 1 shrink the top's 1280 channels too, as TF-OD does and torchvision, timm
    and mmdet do not; `keras_residuals` leaves residuals out where `min_depth` made a block as wide as its input, as the
    Keras networks of TF-OD do (TensorFlow 2), whose comparison knows nothing of it; `padding` "same" or "symmetric";
    `norm_eps`, `norm_momentum` (PyTorch's sense); `activation` "relu6" or "relu". Default taps: "expand13" and "top".
    """

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        *,
        alpha: float = 1.0,
        min_depth: int = 8,
        round_to: int = 8,
        scale_top: bool = False,
        keras_residuals: bool = False,
        padding: str = "same",
        norm_eps: float = 0.001,
        norm_momentum: float = 0.03,
        activation: str = "relu6",
    ) -> None:
        plan = plan_of_mobilenet_v2(
            alpha=alpha,
            min_depth=min_depth,
            round_to=round_to,
            scale_top=scale_top,
            keras_residuals=keras_residuals,
            activation=activation,
        )
        super().__init__(plan, taps, padding=padding, norm_eps=norm_eps, norm_momentum=norm_momentum)
