"""A network for a graph that was taken apart: built only once it is known to be no larger than the file."""

from __future__ import annotations

from typing import Any

import torch

from detection.errors import BadWeightsError
from detection.ssd.network import SSD, build
from detection.ssd.spec import SSDSpec
from detection.weights.importers.graph import DetectorGraph


def rules_of(graph: DetectorGraph) -> dict[str, Any]:
    """The fields of `SSDSpec` that the graph itself says."""
    names = ("variances", "scores", "padding", "activation", "norm_eps")
    return {name: getattr(graph, name) for name in names}


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
    with torch.device("meta"):
        return SSD(spec)
