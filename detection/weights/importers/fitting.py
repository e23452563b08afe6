"""A network for a graph that was taken apart: built only once it is known to be no larger than the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from backbones import build_backbone
from backbones.shapes import shapes_only
from detection.errors import BadWeightsError
from detection.ssd.network import SSD, build
from detection.ssd.spec import SSDSpec
from detection.weights.importers.graph import DetectorGraph
from detection.weights.importers.recognize import Backbone, recognise


def rules_of(graph: DetectorGraph) -> dict[str, Any]:
    """The fields of `SSDSpec` that the graph itself says."""
    names = ("variances", "scores", "padding", "activation", "norm_eps")
    return {name: getattr(graph, name) for name in names}


def backbone_of(graph: DetectorGraph, taps: Mapping[str, tuple[str, ...]], *, pyramid: bool = False) -> Backbone | None:
    """The backbone that the trunk's convolutions are, by their shapes, and by how many tensors are added to each other,
    which shapes do not show. None where it is none of `taps`. Raises BadWeightsError for a known one with other sums."""
    backbone = recognise([layer.shape for layer in graph.trunk], taps)
    if backbone is None:
        return None
    forms = [backbone]
    if backbone.name == "mobilenet_v2":
        keras = replace(backbone, options={**backbone.options, "keras_residuals": True})
        forms = [backbone, keras] if residuals(keras) != residuals(backbone) else forms
    joins = len(backbone.taps) - 1 if pyramid else 0
    if graph.sums is None:
        return forms[-1 if graph.details.get("keras") else 0]
    for form in forms:
        if residuals(form) + joins == graph.sums:
            return form
    raise BadWeightsError(
        f"{graph.file}: adds {graph.sums} pairs of tensors, where the {backbone.name} that it looks like adds "
        f"{residuals(backbone) + joins}"
    )


def residuals(backbone: Backbone) -> int:
    """How many of its blocks add their input to their output."""
    with shapes_only():
        built = build_backbone(backbone.name, backbone.taps, **backbone.options)
    return sum(getattr(block, "residual", False) for block in built.modules())


def build_fitting(spec: SSDSpec, graph: DetectorGraph) -> SSD:
    """`build(spec)`. Raises BadWeightsError, one line and before any memory is asked for, if the file's kernels are too
    few for it: heads of a forged file may agree with each other on a hundred thousand classes that are not there."""
    ours = sum(p.numel() for p in without_memory(spec).parameters() if p.ndim == 4)
    theirs = sum(layer.weight.size for layer in graph.convolutions)
    if ours > theirs:
        raise BadWeightsError(f"{graph.file}: {theirs:,} weights where the network that it looks like has {ours:,}")
    return build(spec)


def without_memory(spec: SSDSpec) -> SSD:
    """The network of a spec on PyTorch's "meta" device: shapes alone."""
    with shapes_only():
        return SSD(spec)
