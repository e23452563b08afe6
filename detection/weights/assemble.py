"""A frozen graph taken apart -> a network of ours with the same numbers: the architecture is found by its shapes.

Whatever was folded gets a batch norm again with trivial statistics (mean 0, variance 1), so that there is one form of
every network; `Card.folded_norms` says that they must be recalibrated before training.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from backbones import build_backbone
from backbones.blocks import ConvNormAct
from detection.core.anchors import AnchorSpec, anchors_for
from detection.core.card import Card
from detection.core.errors import BadWeightsError
from detection.core.labels import COCO_80, coco_classes_of_columns
from detection.ssd.network import SSD, build, feature_maps
from detection.ssd.spec import ExtraSpec, HeadSpec, InputSpec, SSDSpec
from detection.weights.graph import Convolution, DetectorGraph, Head
from detection.weights.tflite import object_labels

ALPHAS = (1.0, 0.75, 0.5, 0.35, 0.25, 1.3, 1.4, 0.125)


def assemble(graph: DetectorGraph) -> tuple[SSD, Card]:
    """Finds backbone, width, extras, heads and anchors by shapes, builds that network and fills it.

    Raises BadWeightsError, naming the first shape that fits nothing, if the graph is no SSD MobileNet known here.
    """
    backbone, options, taps, used = _find_backbone(graph)
    spec = SSDSpec(
        backbone=backbone,
        backbone_options=options,
        taps=taps,
        num_classes=graph.columns - 1,
        input=InputSpec(size=graph.input_size, mean=graph.mean, std=graph.std),
        extras=_extras(graph.body[used:], graph.file),
        heads=_heads(graph.box_heads),
        padding="same",
    )
    spec = _with_anchors(spec, graph)
    ssd = build(spec)
    layers = [m for m in ssd.modules() if isinstance(m, ConvNormAct)]
    in_heads = {id(m) for m in ssd.heads.modules()}
    fill([m for m in layers if id(m) not in in_heads], graph.body, graph.file)
    for head, boxes, scores in zip(ssd.heads, graph.box_heads, graph.class_heads, strict=True):
        _fill_branch(head.box, boxes, graph.file, boxes_of_tensorflow=True)
        _fill_branch(head.score, scores, graph.file)
    names, ids = class_list(graph.columns - 1, object_labels(graph.details.get("labels"), graph.columns))
    card = Card(
        spec=spec.to_dict(),
        class_names=names,
        category_ids=ids,
        feature_maps=feature_maps(ssd),
        folded_norms=True,
    )
    return ssd.eval(), card


def class_list(number: int, labels: list[str] | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and ids of the object columns: the file's own labels where it has them, COCO's where the number is COCO's."""
    if labels and any(labels):
        names = tuple(name or f"unused {i + 1}" for i, name in enumerate(labels))
        if number == 80 and names == tuple(COCO_80.values()):
            return names, tuple(COCO_80)
        return names, tuple(range(1, number + 1))
    if number in (80, 90):
        return coco_classes_of_columns(number)
    return tuple(f"class {i + 1}" for i in range(number)), tuple(range(1, number + 1))


def fill(layers: list[ConvNormAct], convolutions: list[Convolution], file: str) -> None:
    """Copies convolutions into layers, one for one and in order; every shape is compared first."""
    for layer, source in zip(layers, convolutions, strict=False):
        if tuple(layer.conv.weight.shape) != source.shape:
            raise BadWeightsError(
                f"{file}: {source.name} has shape {list(source.shape)} where the network has {list(layer.conv.weight.shape)}"
            )
    if len(layers) != len(convolutions):
        raise BadWeightsError(f"{file}: {len(convolutions)} convolutions where the network has {len(layers)}")
    for layer, source in zip(layers, convolutions):
        fill_layer(layer, source)


@torch.no_grad()
def fill_layer(layer: ConvNormAct, source: Convolution) -> None:
    """One convolution, its batch norm whole or trivial."""
    layer.conv.weight.copy_(torch.from_numpy(np.array(source.weight)))
    norm = layer.norm
    if not isinstance(norm, nn.BatchNorm2d):
        assert layer.conv.bias is not None
        layer.conv.bias.copy_(torch.from_numpy(np.array(source.bias)))
        return
    if source.norm is not None:
        gamma, beta, mean, variance, eps = source.norm
        norm.eps = eps
    else:
        eps, ones = norm.eps, np.ones_like(source.bias)
        gamma, beta, mean, variance = np.sqrt(1 + np.float64(eps)) * ones, source.bias, 0 * ones, ones
    for target, value in zip(
        (norm.weight, norm.bias, norm.running_mean, norm.running_var), (gamma, beta, mean, variance)
    ):
        target.copy_(torch.from_numpy(np.array(value, np.float32)))


def _find_backbone(graph: DetectorGraph) -> tuple[str, dict, tuple[str, ...], int]:
    shapes = [layer.shape for layer in graph.body]
    for name, taps, variants in (
        ("mobilenet_v1", ("conv11", "conv13"), [{}]),
        ("mobilenet_v2", ("expand13", "top"), [{"scale_top": False}, {"scale_top": True}]),
    ):
        for alpha in ALPHAS:
            for depth in (16, 8):
                for variant in variants:
                    options = {"alpha": alpha, "min_depth": depth, **variant}
                    with torch.device("meta"):
                        layers = build_backbone(name, taps=taps, **options).modules()
                    wanted = [tuple(m.conv.weight.shape) for m in layers if isinstance(m, ConvNormAct)]
                    if shapes[: len(wanted)] == wanted:
                        return name, options, taps, len(wanted)
    first = ", ".join(str(list(shape)) for shape in shapes[:4])
    raise BadWeightsError(
        f"{graph.file}: an SSD whose backbone is no MobileNet V1 or V2 of a known width ({len(shapes)} convolutions: {first}, ...)"
    )


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
    """TensorFlow's layout where it gives the file's anchors, else the file's own sizes written out."""
    from dataclasses import replace

    per_cell = tuple(head.layers[-1].shape[0] // 4 for head in graph.box_heads)
    tolerance = max(graph.details.get("anchor_step", 0.0), 1e-4)
    for reduce_lowest in (True, False):
        options = {} if reduce_lowest else {"reduce_lowest": False}
        candidate = replace(spec, anchors=AnchorSpec("tensorflow", options))
        if candidate.anchors.per_cell(len(per_cell), spec.input.size) != per_cell:
            continue
        maps = feature_maps(SSD(candidate))
        anchors = anchors_for(candidate.anchors, maps, spec.input.size)
        if anchors.shape == graph.anchors.shape and np.abs(anchors - graph.anchors).max() <= tolerance:
            return candidate
    maps = feature_maps(
        SSD(replace(spec, anchors=AnchorSpec("explicit", {"sizes": [[(0.5, 0.5)] * n for n in per_cell]})))
    )
    sizes, at = [], 0
    for (rows, columns), number in zip(maps, per_cell):
        sizes.append([[float(w), float(h)] for w, h in graph.anchors[at : at + number, 2:]])
        at += rows * columns * number
    written = AnchorSpec("explicit", {"sizes": sizes})
    anchors = anchors_for(written, maps, spec.input.size)
    if anchors.shape != graph.anchors.shape or np.abs(anchors - graph.anchors).max() > max(tolerance, 1e-3):
        raise BadWeightsError(
            f"{graph.file}: its {len(graph.anchors)} anchors lie on no regular grid of the network's maps"
        )
    return replace(spec, anchors=written)


def _fill_branch(branch: nn.Module, head: Head, file: str, boxes_of_tensorflow: bool = False) -> None:
    parts = list(branch) if isinstance(branch, nn.Sequential) else [branch]
    last, source = parts[-1], head.layers[-1]
    weight, bias = source.weight, source.bias
    if boxes_of_tensorflow:  # (ty, tx, th, tw) -> (tx, ty, tw, th) within each anchor
        order = np.arange(len(bias)).reshape(-1, 4)[:, [1, 0, 3, 2]].ravel()
        weight, bias = weight[order], bias[order]
    if tuple(last.weight.shape) != weight.shape:
        raise BadWeightsError(
            f"{file}: head {source.name} has shape {list(weight.shape)}, expected {list(last.weight.shape)}"
        )
    if len(parts) > 1:
        fill([parts[0]], head.layers[:-1], file)
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(np.array(weight)))
        last.bias.copy_(torch.from_numpy(np.array(bias)))
