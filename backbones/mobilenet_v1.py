"""MobileNet V1 (arXiv 1704.04861): a 3x3 convolution and thirteen depthwise-separable blocks; any width, two twins.

Taps are TensorFlow's layer names: "conv0" the first convolution, "convN" block N after its activation.
State dict: `conv0.{conv,norm}`, `blocks.{N-1}.{depthwise,pointwise}.{conv,norm}`; in the full-convolution twin
`blocks.{N-1}.{conv,norm}`.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import ConvNormAct, DepthwiseSeparable, Norm
from .initialise import initialise
from .taps import Backbone, Tap, check_alpha, choose_taps

# (stride, channels at alpha 1) of Conv2d_1 .. Conv2d_13. The paper's Table 1 prints stride 2 for the last depthwise: a
# misprint, stride 1 gives its 569 million multiply-adds.
_BLOCKS = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024))
_DEEP = range(7, 12)  # the five blocks of 512 that the shallow twin of the paper's Table 5 leaves out


def taps_of_mobilenet_v1(*, alpha: float = 1.0, min_depth: int = 8, shallow: bool = False) -> tuple[Tap, ...]:
    """All taps, first to last. Width rule: max(int(channels * alpha), min_depth), not rounded to multiples of eight."""
    check_alpha(alpha)
    stride = 2
    taps = [Tap("conv0", stride, max(int(32 * alpha), min_depth))]
    for number, (block_stride, channels) in enumerate(_BLOCKS, start=1):
        if shallow and number in _DEEP:
            continue
        stride *= block_stride
        taps.append(Tap(f"conv{number}", stride, max(int(channels * alpha), min_depth)))
    return tuple(taps)


class MobileNetV1(Backbone):
    """MobileNet V1. Options: `alpha` the width, `min_depth` the least channels of a layer (8 in the classifiers, 16 in
    TF-OD's detectors), `padding` "same" or "symmetric", the norms' `norm_eps` and `norm_momentum` (PyTorch's sense),
    `activation` "relu6" (TensorFlow) or "relu" (Caffe, qfgaohao), `full_conv` 3x3 convolutions in the place of the
    separable blocks, `shallow` without blocks 7 to 11. Default taps: blocks 11 (6 if shallow) and 13.
    """

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        *,
        alpha: float = 1.0,
        min_depth: int = 8,
        padding: str = "same",
        norm_eps: float = 0.001,
        norm_momentum: float = 0.03,
        activation: str = "relu6",
        full_conv: bool = False,
        shallow: bool = False,
    ) -> None:
        name = "mobilenet_v1_fullconv" if full_conv else "mobilenet_v1"
        available = taps_of_mobilenet_v1(alpha=alpha, min_depth=min_depth, shallow=shallow)
        usual = ("conv6" if shallow else "conv11", "conv13")
        super().__init__(name, choose_taps(name, available, usual if taps is None else taps))
        norm = Norm(norm_eps, norm_momentum)
        last = max(available.index(tap) for tap in self.taps)
        self.layer_names = tuple(tap.name for tap in available[: last + 1])
        self.conv0 = ConvNormAct(3, available[0].channels, 3, 2, padding=padding, activation=activation, norm=norm)
        self.blocks = nn.ModuleList()
        for before, tap in zip(available[:last], available[1 : last + 1], strict=True):
            stride = tap.stride // before.stride
            if full_conv:
                block: nn.Module = ConvNormAct(
                    before.channels, tap.channels, 3, stride, padding=padding, activation=activation, norm=norm
                )
            else:
                block = DepthwiseSeparable(
                    before.channels, tap.channels, stride, padding=padding, activation=activation, norm=norm
                )
            self.blocks.append(block)
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W], normalised -> one [N, tap.channels, ceil(H / tap.stride), ceil(W / tap.stride)] a tap."""
        self.check_size(x)
        wanted = {tap.name for tap in self.taps}
        found: dict[str, Tensor] = {}
        for name, layer in zip(self.layer_names, (self.conv0, *self.blocks), strict=True):
            x = layer(x)
            if name in wanted:
                found[name] = x
        return [found[tap.name] for tap in self.taps]
