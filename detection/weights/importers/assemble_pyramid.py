"""A frozen FPN-lite detector taken apart -> our pyramid and shared predictor with the same numbers.

TensorFlow writes the shared predictor out once for every map, each copy with that map's batch norm folded in: the
copies' weights differ by a factor a channel, which becomes that norm again.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from backbones import available_taps
from detection.boxes.anchors import AnchorSpec
from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.ssd.pyramid import SharedHeads
from detection.ssd.spec import HeadSpec, InputSpec, PyramidSpec, SSDSpec
from detection.weights.importers.fill import fill, fill_branch, fill_norm, fill_plain
from detection.weights.importers.fitting import backbone_of, build_fitting, rules_of
from detection.weights.importers.graph import Convolution, DetectorGraph
from detection.weights.importers.recognize import layers_of

TAPS = {"mobilenet_v1": ("conv5", "conv11", "conv13"), "mobilenet_v2": ("block5", "block12", "top")}
SAME = 1e-3  # how far a copy may be from a multiple of the first, relative to its largest weight


def has_shared_predictor(graph: DetectorGraph) -> bool:
    """Whether all maps have one and the same last layer."""
    first, *others = [head.layers[-1].weight for head in graph.class_heads]
    return bool(others) and all(np.array_equal(first, other) for other in others)


def assemble_pyramid(graph: DetectorGraph) -> SSD:
    """The network of a graph with a shared predictor. Raises BadWeightsError if TensorFlow would not build it so.

    The trunk's convolutions come in the order in which the maps need them: the backbone; the laterals and smoothing
    layers from coarse to fine; for each map, finest first, its coarse layer if it has one, and its copy of the tower.
    """
    backbone = backbone_of(graph, TAPS, pyramid=True)
    if backbone is None:
        raise BadWeightsError(f"{graph.file}: a pyramid on a backbone that is no MobileNet V1 or V2 of a known width")
    rest = graph.trunk[backbone.convolutions :]
    maps, laterals = len(graph.box_heads), len(backbone.taps)
    parts = 2 if len(graph.box_heads[0].layers) == 2 else 1  # layers of one separable convolution
    coarse = maps - laterals
    depth = (len(rest) - laterals - parts * (laterals - 1 + coarse)) // (parts * maps)
    width = rest[0].shape[0] if rest else 0
    spec = SSDSpec(
        backbone=backbone.name,
        backbone_options=backbone.options,
        taps=backbone.taps,
        num_classes=graph.columns - 1,
        input=InputSpec(size=graph.input_size, mean=graph.mean, std=graph.std),
        pyramid=PyramidSpec(channels=width, coarse=coarse, depth=depth, separable=parts == 2),
        heads=HeadSpec("separable" if parts == 2 else "conv", 3, class_bias=-4.6),
        anchors=graph.layout
        or AnchorSpec("multiscale", {"min_level": _level(backbone.name, backbone.options, backbone.taps[0])}),
        norm_momentum=0.003,
        **rules_of(graph),
    )
    if coarse < 0 or depth < 0 or len(rest) != laterals + parts * (laterals - 1 + coarse + maps * depth):
        raise BadWeightsError(f"{graph.file}: its pyramid is of no known kind ({len(rest)} layers for {maps} maps)")
    ssd = build_fitting(spec, graph)
    assert ssd.pyramid is not None and isinstance(ssd.heads, SharedHeads)
    fill(layers_of(ssd.backbone), graph.trunk[: backbone.convolutions], graph.file)
    layers = iter(rest)
    for i in reversed(range(laterals)):
        fill_plain(ssd.pyramid.laterals[i], next(layers), graph.file)  # type: ignore[arg-type]
        if i < laterals - 1:
            _fill_convolution(ssd.pyramid.smooth[i], [next(layers) for _ in range(parts)], graph.file)
    towers = []
    for level in range(maps):
        if level >= laterals:
            _fill_convolution(ssd.pyramid.coarse[level - laterals], [next(layers) for _ in range(parts)], graph.file)
        towers.append([[next(layers) for _ in range(parts)] for _ in range(depth)])
    for k in range(depth):
        _fill_shared(ssd.heads, k, [tower[k] for tower in towers], graph.file)
    fill_branch(ssd.heads.box, graph.box_heads[0], graph.file, boxes_of_tensorflow=True)
    fill_branch(ssd.heads.score, graph.class_heads[0], graph.file)
    return ssd


def _level(name: str, options: dict, tap: str) -> int:
    stride = next(t.stride for t in available_taps(name, **options) if t.name == tap)
    return stride.bit_length() - 1


def _fill_convolution(layer: nn.Module, sources: list[Convolution], file: str) -> None:
    if isinstance(layer, nn.Sequential):
        fill_plain(layer[0], sources[0], file)  # type: ignore[arg-type]
        fill([layer[1]], sources[1:], file)  # type: ignore[list-item]
    else:
        fill([layer], sources, file)  # type: ignore[list-item]


def _fill_shared(heads: SharedHeads, k: int, copies: list[list[Convolution]], file: str) -> None:
    """Layer k of the tower from its copy in each map: the weights of the first, and a norm for each."""
    first = copies[0][-1]
    for part, source in zip(heads.tower[k], copies[0]):  # type: ignore[arg-type]
        fill_plain(part, Convolution(source.name, source.weight, np.zeros_like(source.bias)), file)
    if len(copies[0]) == 2 and np.abs(copies[0][0].bias).max() > 0:
        raise BadWeightsError(f"{file}: {copies[0][0].name} has a bias where the network has none")
    for level, copy in enumerate(copies):
        if any(not np.array_equal(a.weight, b.weight) for a, b in zip(copy[:-1], copies[0][:-1])):
            raise BadWeightsError(f"{file}: {copy[0].name} differs from map to map, so its predictor is not shared")
        axes = tuple(range(1, first.weight.ndim))
        theirs, ours = copy[-1].weight.astype(np.float64), first.weight.astype(np.float64)
        power = (ours * ours).sum(axes)
        scale = np.divide((theirs * ours).sum(axes), power, out=np.ones_like(power), where=power > 0)
        if np.abs(theirs - ours * scale.reshape(-1, *[1] * len(axes))).max() > SAME * np.abs(theirs).max():
            raise BadWeightsError(f"{file}: {copy[-1].name} differs from map to map, so its predictor is not shared")
        fill_norm(heads.norms[level][k], copy[-1], scale)  # type: ignore[index]
