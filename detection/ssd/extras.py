"""The layers behind the backbone that make the coarser maps."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from backbones.blocks import ConvNormAct, InvertedResidual, Norm
from detection.errors import MobileSSDError
from detection.ssd.spec import ExtraSpec, SSDSpec


def build_extra(in_channels: int, extra: ExtraSpec, spec: SSDSpec) -> nn.Module:
    """One extra layer: [N, in, H, W] -> [N, extra.channels, H', W']. Kinds as `ExtraSpec` says."""
    norm = Norm(spec.norm_eps, spec.norm_momentum) if spec.extras_norm else None
    padding = spec.padding if extra.padding is None else extra.padding
    common: dict[str, Any] = {"activation": spec.activation, "norm": norm}
    spatial: dict[str, Any] = {"kernel_size": extra.kernel, "stride": extra.stride, "padding": padding}
    if extra.kind == "conv":
        return nn.Sequential(
            ConvNormAct(in_channels, extra.hidden, **common),
            ConvNormAct(extra.hidden, extra.channels, **spatial, **common),
        )
    if extra.kind == "separable":
        return nn.Sequential(
            ConvNormAct(in_channels, extra.hidden, **common),
            ConvNormAct(extra.hidden, extra.hidden, groups=extra.hidden, **spatial, **common),
            ConvNormAct(extra.hidden, extra.channels, **common | ({"activation": None} if extra.linear else {})),
        )
    if extra.kind == "inverted":
        return InvertedResidual(in_channels, extra.channels, expanded=extra.hidden, **spatial, **common)
    if extra.kind == "direct":
        return ConvNormAct(in_channels, extra.channels, **spatial, **common)
    raise MobileSSDError(f"unknown kind of extra layer {extra.kind!r}; known: conv, separable, inverted, direct")


class Extras(nn.ModuleList):
    """All extra layers, one behind the other: a map [N, C, H, W] -> a list with the map of each layer."""

    def __init__(self, in_channels: int, spec: SSDSpec) -> None:
        layers = []
        for extra in spec.extras:
            layers.append(build_extra(in_channels, extra, spec))
            in_channels = extra.channels
        super().__init__(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self:
            x = layer(x)
            maps.append(x)
        return maps
