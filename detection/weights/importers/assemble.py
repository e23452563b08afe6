"""A frozen graph taken apart -> a network of ours with the same numbers: the architecture is found by its shapes.

A whole batch norm is kept. What was folded gets one again with trivial statistics (mean 0, variance 1), so that there is
one form of every network; `Card.folded_norms` says that they must be recalibrated before training.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detection.boxes.anchors import AnchorSpec, anchors_for
from detection.errors import BadWeightsError
from detection.ssd.network import SSD, anchors_of, feature_maps
from detection.ssd.spec import ExtraSpec, HeadSpec, InputSpec, SSDSpec
from detection.weights.card import Card
from detection.weights.importers.assemble_pyramid import assemble_pyramid, has_shared_predictor
from detection.weights.importers.fill import fill, fill_branch
from detection.weights.importers.fitting import backbone_of, build_fitting, rules_of, without_memory
from detection.weights.importers.graph import Convolution, DetectorGraph, Head
from detection.weights.importers.labels import class_list, object_labels
from detection.weights.importers.recognize import layers_of

TAPS = {"mobilenet_v1": ("conv11", "conv13"), "mobilenet_v2": ("expand13", "top")}


def assemble(graph: DetectorGraph) -> tuple[SSD, Card]:
    """Finds backbone, width, extras or pyramid, heads and anchors by shapes, builds that network and fills it.

    Raises BadWeightsError, naming the first shape that fits nothing, if the graph is no SSD MobileNet known here.
    """
    ssd = assemble_pyramid(graph) if has_shared_predictor(graph) else _assemble_plain(graph)
    _check_anchors(ssd, graph)
    names, ids = class_list(graph.columns - 1, object_labels(graph.details.get("labels"), graph.columns))
    card = Card(
        spec=ssd.spec.to_dict(),
        class_names=names,
        category_ids=ids,
        feature_maps=feature_maps(ssd),
        folded_norms=any(layer.norm is None for layer in _normalised(ssd, graph)),
    )
    return ssd.eval(), card


def _normalised(ssd: SSD, graph: DetectorGraph) -> list[Convolution]:
    """The layers that have a norm in our network; a pyramid has some without, and fares as the backbone does."""
    return graph.trunk if ssd.pyramid is None else graph.trunk[: len(layers_of(ssd.backbone))]


def _assemble_plain(graph: DetectorGraph) -> SSD:
    backbone = backbone_of(graph, TAPS)
    if backbone is None:
        shapes = [layer.shape for layer in graph.trunk]
        first = ", ".join(str(list(shape)) for shape in shapes[:4])
        raise BadWeightsError(
            f"{graph.file}: an SSD whose backbone is no MobileNet V1 or V2 of a known width "
            f"({len(shapes)} convolutions: {first}, ...)"
        )
    spec = SSDSpec(
        backbone=backbone.name,
        backbone_options=backbone.options,
        taps=backbone.taps,
        num_classes=graph.columns - 1,
        input=InputSpec(size=graph.input_size, mean=graph.mean, std=graph.std, color=graph.color),
        extras=_extras(graph.trunk[backbone.convolutions :], graph.file),
        heads=_heads(graph.box_heads),
        **rules_of(graph),
    )
    ssd = build_fitting(_with_anchors(spec, graph), graph)
    fill(layers_of(ssd.backbone) + layers_of(ssd.extras), graph.trunk, graph.file)
    for head, boxes, scores in zip(ssd.heads, graph.box_heads, graph.class_heads, strict=True):
        fill_branch(head.box, boxes, graph.file, boxes_of_tensorflow=graph.yx)
        fill_branch(head.score, scores, graph.file)
    return ssd


def _check_anchors(ssd: SSD, graph: DetectorGraph) -> None:
    if graph.anchors is None:
        return
    ours = anchors_of(ssd)
    if ours.shape != graph.anchors.shape or np.abs(ours - graph.anchors).max() > max(_step(graph), 1e-3):
        raise BadWeightsError(
            f"{graph.file}: its {len(graph.anchors)} anchors lie on no regular grid of the network's maps"
        )


def _step(graph: DetectorGraph) -> float:
    """How coarse the file's anchors are: the step of their 8-bit numbers, or float32's dust."""
    return max(graph.details.get("anchor_step", 0.0), 1e-4)


def _extras(layers: list[Convolution], file: str) -> tuple[ExtraSpec, ...]:
    extras, rest = [], list(layers)
    while rest:
        if len(rest) >= 3 and rest[1].depthwise:
            squeeze, spatial, out = rest[:3]
            extras.append(ExtraSpec(out.shape[0], squeeze.shape[0], "separable", spatial.shape[2], spatial.stride))
            rest = rest[3:]
        elif len(rest) >= 2 and rest[0].shape[2] == 1:
            squeeze, spatial = rest[:2]
            extras.append(ExtraSpec(spatial.shape[0], squeeze.shape[0], "conv", spatial.shape[2], spatial.stride))
            rest = rest[2:]
        else:
            raise BadWeightsError(f"{file}: the extra layer at {rest[0].name} is of no known kind")
    return tuple(extras)


def _heads(heads: list[Head]) -> HeadSpec:
    first = heads[0].layers
    return HeadSpec("separable" if len(first) == 2 else "conv", first[0].shape[2])


def _with_anchors(spec: SSDSpec, graph: DetectorGraph) -> SSDSpec:
    """The layout that the file says, TensorFlow's where it gives the file's anchors, or the file's own sizes written out."""
    per_cell = tuple(head.layers[-1].shape[0] // 4 for head in graph.box_heads)
    if graph.anchors is None:
        assert graph.layout is not None
        return replace(spec, anchors=graph.layout)
    for reduce_lowest in (True, False):
        options = {} if reduce_lowest else {"reduce_lowest": False}
        candidate = replace(spec, anchors=AnchorSpec("tensorflow", options))
        if candidate.anchors.per_cell(len(per_cell), spec.input.size) != per_cell:
            continue
        maps = feature_maps(without_memory(candidate))
        anchors = anchors_for(candidate.anchors, maps, spec.input.size)
        if anchors.shape == graph.anchors.shape and np.abs(anchors - graph.anchors).max() <= _step(graph):
            return candidate
    written_out = AnchorSpec("explicit", {"sizes": [[(0.5, 0.5)] * n for n in per_cell]})
    maps = feature_maps(without_memory(replace(spec, anchors=written_out)))
    sizes, at = [], 0
    for (rows, columns), number in zip(maps, per_cell):
        sizes.append([[float(w), float(h)] for w, h in graph.anchors[at : at + number, 2:]])
        at += rows * columns * number
    return replace(spec, anchors=AnchorSpec("explicit", {"sizes": sizes}))
