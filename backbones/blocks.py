"""The blocks of every backbone: convolution + norm + activation, separable and inverted blocks.

Extras and heads of the detectors are built from the same blocks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .convolutions import conv2d


@dataclass(frozen=True)
class Norm:
    """How batch norms are built. `momentum` is PyTorch's: 0.03 is TensorFlow's decay 0.97."""

    eps: float = 0.001
    momentum: float = 0.03


DEFAULT_NORM = Norm()


def make_divisible(value: float, divisor: int = 8, min_value: int | None = None) -> int:
    """The width rule of MobileNet V2 and V3: round to a multiple of `divisor`, never below 90 % of `value`.

    `min_value` (TF-OD's min_depth) is the least answer; left out it is `divisor`, as in slim and torchvision.
    """
    rounded = max(divisor if min_value is None else min_value, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class ReLU6(nn.ReLU6):
    """min(max(x, 0), 6). In training its gradient is taken from its result, which the next convolution keeps anyway;
    PyTorch's own keeps a copy of its input beside it, a third of all that a MobileNet holds for its backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        plain = not (self.training and x.requires_grad) or torch.compiler.is_compiling() or torch.jit.is_tracing()
        return super().forward(x) if plain else _ClampInPlace.apply(x)


class _ClampInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.clamp_(0, 6)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradients[0], result, 0.0, 6.0)


def activation_layer(name: str | None) -> nn.Module:
    """The layer of "relu6", "relu", "hswish" (x * relu6(x + 3) / 6) or None (linear). ValueError for another name."""
    layers: dict[str | None, type[nn.Module]] = {"relu6": ReLU6, "relu": nn.ReLU, "hswish": nn.Hardswish}
    if name is None:
        return nn.Identity()
    if name not in layers:
        raise ValueError(f"unknown activation {name!r}: there are {', '.join(map(str, layers))}")
    return layers[name](inplace=True)


class ConvNormAct(nn.Module):
    """Convolution, batch norm, activation: `.conv`, `.norm`, `.act` (the latter two nn.Identity where there is none).

    `norm=None` leaves the norm out. The convolution has a bias exactly when there is no norm, unless `bias` says
    otherwise (some published files carry both). `padding` as in `conv2d`, `activation` as in `activation_layer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        padding: str | int = "same",
        activation: str | None = "relu6",
        norm: Norm | None = DEFAULT_NORM,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.conv = conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation=dilation,
            groups=groups,
            padding=padding,
            bias=norm is None if bias is None else bias,
        )
        self.norm = nn.Identity() if norm is None else nn.BatchNorm2d(out_channels, norm.eps, norm.momentum)
        self.act = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W']."""
        return self.act(self.norm(self.conv(x)))


class DepthwiseSeparable(nn.Module):
    """V1's block: 3x3 `.depthwise`, then 1x1 `.pointwise`, each with norm and activation (arXiv 1704.04861)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        kernel_size: int = 3,
        padding: str | int = "same",
        activation: str | None = "relu6",
        norm: Norm | None = DEFAULT_NORM,
    ) -> None:
        super().__init__()
        self.depthwise = ConvNormAct(
            in_channels,
            in_channels,
            kernel_size,
            stride,
            groups=in_channels,
            padding=padding,
            activation=activation,
            norm=norm,
        )
        self.pointwise = ConvNormAct(in_channels, out_channels, activation=activation, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W']."""
        return self.pointwise(self.depthwise(x))


class SqueezeExcite(nn.Module):
    """V3's channel gate (arXiv 1905.02244): pool, 1x1 `.fc1`, ReLU, 1x1 `.fc2`, relu6(x + 3) / 6, multiply."""

    def __init__(self, channels: int, squeezed: int | None = None) -> None:
        super().__init__()
        squeezed = make_divisible(channels // 4) if squeezed is None else squeezed
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        gate = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(gate)


class InvertedResidual(nn.Module):
    """The block of V2, V3 and V4: linear depthwise `.start` (V4), 1x1 `.expand` to `expanded` channels, `.depthwise`, `.gate`
    (V3), linear 1x1 `.project`.

    `.start` is None where `start_kernel` is 0, `.expand` where `expanded` equals `in_channels`, `.depthwise` where
    `kernel_size` is 0, `.gate` without `squeeze`. The last depthwise layer has the stride. The input is added to the output
    where both have one shape, and `residual` is not off. `expand_only` builds nothing behind the expansion, for a backbone
    that ends there.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expanded: int,
        start_kernel: int = 0,
        kernel_size: int = 3,
        stride: int = 1,
        squeeze: bool = False,
        padding: str | int = "same",
        activation: str | None = "relu6",
        norm: Norm | None = DEFAULT_NORM,
        expand_only: bool = False,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.residual = residual and stride == 1 and in_channels == out_channels
        self.expand_only = expand_only

        def depthwise(channels: int, kernel: int, stride: int, activation: str | None) -> ConvNormAct | None:
            if not kernel:
                return None
            return ConvNormAct(
                channels, channels, kernel, stride, groups=channels, padding=padding, activation=activation, norm=norm
            )

        self.start = depthwise(in_channels, start_kernel, 1 if kernel_size else stride, None)
        self.expand = (
            None if expanded == in_channels else ConvNormAct(in_channels, expanded, activation=activation, norm=norm)
        )
        if expand_only:
            return
        self.depthwise = depthwise(expanded, kernel_size, stride, activation)
        self.gate = SqueezeExcite(expanded) if squeeze else None
        self.project = ConvNormAct(expanded, out_channels, activation=None, norm=norm)

    def expansion(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, expanded, H, W], activated: what TF-OD and torchvision tap at strides 8 and 16."""
        x = x if self.start is None else self.start(x)
        return x if self.expand is None else self.expand(x)

    def finish(self, x: Tensor, expansion: Tensor) -> Tensor:
        """The rest of the block, from its input `x` and `expansion(x)` -> [N, out, H', W']."""
        out = expansion if self.depthwise is None else self.depthwise(expansion)
        out = self.project(out if self.gate is None else self.gate(out))
        return x + out if self.residual else out

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W']."""
        return self.finish(x, self.expansion(x))


class FusedInverted(nn.Module):
    """V4's fused inverted bottleneck without a residual: k x k `.expand` with the stride, linear 1x1 `.project`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expanded: int,
        kernel_size: int = 3,
        stride: int = 2,
        padding: str | int = "same",
        activation: str | None = "relu",
        norm: Norm | None = DEFAULT_NORM,
    ) -> None:
        super().__init__()
        self.expand = ConvNormAct(
            in_channels, expanded, kernel_size, stride, padding=padding, activation=activation, norm=norm
        )
        self.project = ConvNormAct(expanded, out_channels, activation=None, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W']."""
        return self.project(self.expand(x))
