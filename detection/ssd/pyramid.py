"""The FPN-lite form of the TF2 zoo: a top-down pyramid, and one predictor shared by all its maps.

After Lin et al. 2017 (FPN 1612.03144, RetinaNet 1708.02002) as TF-OD builds it (fpn_top_down_feature_maps,
weight_shared_convolutional_box_predictor), every 3x3 convolution separable.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from backbones.blocks import ConvNormAct, Norm, activation_layer
from backbones.convolutions import conv2d, spatial_size
from detection.ssd.heads import flatten
from detection.ssd.spec import PyramidSpec, SSDSpec


class Pyramid(nn.Module):
    """The backbone's maps, finest first -> `channels`-wide maps, finest first, `coarse` more than came in.

    `.laterals` 1x1 to the pyramid's width; from coarse to fine each map takes in the doubled coarser one and is
    smoothed by `.smooth`; `.coarse` make the further maps from the coarsest, which is neither smoothed nor activated.
    """

    def __init__(self, channels: list[int], spec: SSDSpec) -> None:
        super().__init__()
        assert spec.pyramid is not None
        width = spec.pyramid.channels
        self.laterals = nn.ModuleList(conv2d(c, width) for c in channels)
        self.smooth = nn.ModuleList(_convolution(width, 1, spec, spec.pyramid) for _ in channels[:-1])
        self.coarse = nn.ModuleList(_convolution(width, 2, spec, spec.pyramid) for _ in range(spec.pyramid.coarse))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        laterals = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        found = [laterals[-1]]
        for lateral, smooth in zip(laterals[-2::-1], list(self.smooth)[::-1]):
            height, width = spatial_size(lateral)
            doubled = F.interpolate(found[0], scale_factor=2.0, mode="nearest")
            found.insert(0, smooth(doubled[:, :, :height, :width] + lateral))  # an odd map is half of one cell more
        for layer in self.coarse:
            found.append(layer(found[-1]))
        return found


class SharedHeads(nn.Module):
    """One predictor for all maps: `.tower` of convolutions, `.norms[map][layer]` of each map, `.box`, `.score`.

    Maps [N, C, h, w] -> for each map encodings [N, h*w*a, 4] and logits [N, h*w*a, K].
    """

    def __init__(self, maps: int, anchors: int, spec: SSDSpec) -> None:
        super().__init__()
        assert spec.pyramid is not None
        width, depth = spec.pyramid.channels, spec.pyramid.depth
        self.columns = spec.num_classes + 1
        self.tower = nn.ModuleList(_bare(width, width, spec, spec.pyramid, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(width, spec.norm_eps, spec.norm_momentum) for _ in range(depth))
            for _ in range(maps)
        )
        self.act = activation_layer(spec.activation)
        self.box = _bare(width, anchors * 4, spec, spec.pyramid, bias=True)
        self.score = _bare(width, anchors * self.columns, spec, spec.pyramid, bias=True)

    def __iter__(self):
        """As the heads of a plain SSD: each with `.box` and `.score`. Here there is one."""
        return iter((self,))

    def forward(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        found = []
        for x, norms in zip(maps, self.norms, strict=True):
            for layer, norm in zip(self.tower, norms, strict=True):  # type: ignore[arg-type]
                x = self.act(norm(layer(x)))
            found.append((flatten(self.box(x), 4), flatten(self.score(x), self.columns)))
        return found


def _convolution(width: int, stride: int, spec: SSDSpec, pyramid: PyramidSpec) -> nn.Module:
    """3x3 with norm and activation; separable ones have nothing between their two halves (as TensorFlow's)."""
    common = {"padding": spec.padding, "activation": spec.activation, "norm": Norm(spec.norm_eps, spec.norm_momentum)}
    if not pyramid.separable:
        return ConvNormAct(width, width, 3, stride, **common)  # type: ignore[arg-type]
    depthwise = conv2d(width, width, 3, stride, groups=width, padding=spec.padding, bias=False)
    return nn.Sequential(depthwise, ConvNormAct(width, width, **common))  # type: ignore[arg-type]


def _bare(in_channels: int, out_channels: int, spec: SSDSpec, pyramid: PyramidSpec, bias: bool) -> nn.Sequential:
    """A 3x3 convolution without norm and activation; the last entry makes the outputs."""
    if not pyramid.separable:
        return nn.Sequential(conv2d(in_channels, out_channels, 3, padding=spec.padding, bias=bias))
    depthwise = conv2d(in_channels, in_channels, 3, groups=in_channels, padding=spec.padding, bias=False)
    return nn.Sequential(depthwise, conv2d(in_channels, out_channels, bias=bias))
