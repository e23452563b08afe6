"""VGG-16 (arXiv 1409.1556) as SSD300 and SSD512 use it (arXiv 1512.02325), and its convolutions for the classifier.

Taps: "convS_R" (stage S, repeat R, after its ReLU; "conv4_3" scaled by the L2 norm), "fc6", "fc7". Strides double
behind the pools 1 to 4; pool 5 keeps the map, and fc6 makes up for it by a dilation of six: "conv4_3" has stride 8,
"fc7" 16.
State dict: `convS_R.conv`, `conv4_3_norm.weight` (only where "conv4_3" is tapped), `fc6.conv`, `fc7.conv`; with
`batch_norm`, `.norm` beside each `.conv`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import ConvNormAct, Norm
from .initialise import initialise
from .taps import Backbone, Tap, check_alpha, choose_taps

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # (channels, repeats)


class L2Norm(nn.Module):
    """Scales each cell's channel vector to length 1, times a learnt `.weight` a channel, at first 20 (ParseNet)."""

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        # F.normalize without its expand, on which TensorFlow Lite's converter stumbles: the same numbers.
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)
        return self.weight.view(1, -1, 1, 1) * (x / length)


def taps_of_vgg16(*, alpha: float = 1.0, min_depth: int = 8) -> tuple[Tap, ...]:
    """All taps, first to last."""
    check_alpha(alpha)
    taps = []
    for stage, (channels, repeats) in enumerate(_STAGES, start=1):
        stride = 2 ** (stage - 1)
        width = max(int(channels * alpha), min_depth)
        taps += [Tap(f"conv{stage}_{repeat}", stride, width) for repeat in range(1, repeats + 1)]
    width = max(int(1024 * alpha), min_depth)
    return (*taps, Tap("fc6", 16, width), Tap("fc7", 16, width))


class VGG16(Backbone):
    """VGG-16 without its classifier. Options: `alpha` and `min_depth` the width (as MobileNet V1), `padding` (all is
    stride 1, so that "same" and "symmetric" are one), `batch_norm` a norm behind each convolution, with `norm_eps` and
    `norm_momentum`, `ceil_pool3` rounds odd maps up at the third pool (75 to 38 cells in SSD300), `l2_norm` scales
    "conv4_3" where it is tapped, `tap_batch_norm` (qfgaohao's vgg16-ssd) has a batch norm there in its place. Default
    taps: "conv4_3" and "fc7".
    """

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        *,
        alpha: float = 1.0,
        min_depth: int = 8,
        padding: str = "same",
        batch_norm: bool = False,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        ceil_pool3: bool = True,
        l2_norm: bool = True,
        tap_batch_norm: bool = False,
    ) -> None:
        available = taps_of_vgg16(alpha=alpha, min_depth=min_depth)
        super().__init__("vgg16", choose_taps("vgg16", available, ("conv4_3", "fc7") if taps is None else taps))
        self.ceil_pool3 = ceil_pool3
        norm = Norm(norm_eps, norm_momentum) if batch_norm else None
        end = max(available.index(tap) for tap in self.taps)
        self.layer_names = tuple(tap.name for tap in available[: end + 1])
        channels = 3
        for tap in available[: end + 1]:
            kernel, dilation = {"fc6": (3, 6), "fc7": (1, 1)}.get(tap.name, (3, 1))
            layer = ConvNormAct(
                channels, tap.channels, kernel, dilation=dilation, padding=padding, activation="relu", norm=norm
            )
            self.add_module(tap.name, layer)
            if tap.name == "conv4_3" and tap in self.taps and (l2_norm or tap_batch_norm):
                batch = nn.BatchNorm2d(tap.channels, norm_eps, norm_momentum)
                self.add_module("conv4_3_norm", batch if tap_batch_norm else L2Norm(tap.channels))
            channels = tap.channels
        initialise(self, "xavier")

    def _pool(self, before: str, x: Tensor) -> Tensor:
        """The pool in front of the layer of this name, if there is one."""
        if before == "fc6":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        if before.endswith("_1") and before != "conv1_1":
            return F.max_pool2d(x, 2, ceil_mode=before == "conv4_1" and self.ceil_pool3)
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W], normalised -> one [N, tap.channels, h, w] a tap; pools halve, rounding down (pool 3 up)."""
        self.check_size(x)
        wanted = {tap.name for tap in self.taps}
        found: dict[str, Tensor] = {}
        for name in self.layer_names:
            x = self.get_submodule(name)(self._pool(name, x))
            if name in wanted:
                norm = getattr(self, "conv4_3_norm", None) if name == "conv4_3" else None
                found[name] = x if norm is None else norm(x)
        return [found[tap.name] for tap in self.taps]
