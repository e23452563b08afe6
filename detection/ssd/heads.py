"""The prediction layers: on each map one branch for boxes, one for scores."""

from __future__ import annotations

from torch import Tensor, nn

from backbones.blocks import ConvNormAct, Norm
from backbones.convolutions import conv2d
from detection.errors import MobileSSDError
from detection.ssd.spec import SSDSpec


class Head(nn.Module):
    """The predictions of one map: `.box` and `.score` branches.

    [N, C, H, W] -> encodings [N, H*W*a, 4] and logits [N, H*W*a, K], anchors in the order row,
    column, anchor of the cell.
    """

    def __init__(self, in_channels: int, anchors: int, spec: SSDSpec, plain: bool = False) -> None:
        super().__init__()
        self.columns = spec.num_classes + 1
        self.box = _branch(in_channels, anchors * 4, spec, plain)
        self.score = _branch(in_channels, anchors * self.columns, spec, plain)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return flatten(self.box(x), 4), flatten(self.score(x), self.columns)


class Heads(nn.ModuleList):
    """The heads of all maps: maps [N, C, h, w] -> for each map encodings [N, h*w*a, 4] and logits [N, h*w*a, K]."""

    def __init__(self, channels: list[int], per_cell: tuple[int, ...], spec: SSDSpec) -> None:
        last = len(channels) - 1
        super().__init__(
            Head(c, a, spec, plain=spec.heads.plain_last and i == last)
            for i, (c, a) in enumerate(zip(channels, per_cell, strict=True))
        )

    def forward(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return [head(feature) for head, feature in zip(self, maps, strict=True)]


def _branch(in_channels: int, out_channels: int, spec: SSDSpec, plain: bool) -> nn.Module:
    head = spec.heads
    if plain:
        return conv2d(in_channels, out_channels)
    if head.kind == "conv":
        return conv2d(in_channels, out_channels, head.kernel, padding=spec.padding)
    if head.kind == "separable":
        norm = Norm(spec.norm_eps, spec.norm_momentum) if head.depthwise_norm else None
        depthwise = ConvNormAct(
            in_channels,
            in_channels,
            head.kernel,
            groups=in_channels,
            padding=spec.padding,
            activation=spec.activation,
            norm=norm,
            bias=head.depthwise_bias or norm is None,
        )
        return nn.Sequential(depthwise, conv2d(in_channels, out_channels))
    raise MobileSSDError(f"unknown kind of head {head.kind!r}; known: conv, separable")


def last_convolution(branch: nn.Module) -> nn.Conv2d:
    """The convolution that makes a branch's numbers: the one that another class list replaces."""
    return branch[-1] if isinstance(branch, nn.Sequential) else branch  # type: ignore[return-value]


def flatten(x: Tensor, numbers: int) -> Tensor:
    """[N, a * numbers, H, W] -> [N, H * W * a, numbers]."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, numbers)
