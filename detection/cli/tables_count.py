"""What a row of the tables costs, counted from the network that it names, and how a printed figure agrees with that."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from torch import nn
from torchvision import models

from backbones import Cost, build_classifier, count
from backbones.shapes import shapes_only
from detection.boxes.anchors import AnchorSpec
from detection.cli.tables_published import Printed
from detection.ssd.network import SSD, anchors_of
from detection.ssd.spec import SSDSpec
from detection.two_stage.names import NAMES
from detection.two_stage.network import faster_rcnn, faster_rcnn_cost
from detection.weights.names import spec_for

Options = tuple[tuple[str, Any], ...]  # the items of a dictionary: what a cache can hold


@cache
def classifier_cost(name: str, size: int, classes: int, options: Options) -> Cost:
    """Cost of `build_classifier(name, classes, **options)` at size x size pixels."""
    with shapes_only():  # shapes are enough
        network = build_classifier(name, classes, **dict(options))
    return count(without_activations(network), size)


@cache
def torchvision_cost(name: str, size: int, classes: int, options: Options) -> Cost:
    """Cost of `torchvision.models.<name>(num_classes=classes, **options)` at size x size pixels."""
    with shapes_only():
        network = getattr(models, name)(num_classes=classes, **dict(options))
    return count(without_activations(network), size)


@cache
def detector_cost(name: str, columns: int, options: Options, six: bool = False) -> tuple[SSDSpec, Cost, int]:
    """Spec, cost and number of anchors; six: six anchors in every cell."""
    spec = spec_for(name, num_classes=columns - 1, **dict(options))
    if six:
        spec = replace(spec, anchors=AnchorSpec("tensorflow", {"reduce_lowest": False}))
    with shapes_only():
        ssd = without_activations(SSD(spec))
    return spec, count(ssd, spec.input.size), len(anchors_of(without_norms(ssd)))


@cache
def two_stage_cost(name: str, size: int, columns: int, proposals: int) -> Cost:
    """Cost of a Faster R-CNN, ours or `torchvision.models.detection.<name>`, at size x size pixels."""
    with shapes_only():
        if name in NAMES:
            network = faster_rcnn(name, columns, size)
        else:
            network = getattr(models.detection, name)(weights=None, weights_backbone=None, num_classes=columns)
    return faster_rcnn_cost(without_activations(network), size, proposals)


def only(cost: Cost, parts: Sequence[str]) -> Cost:
    """The cost of the layers below these modules alone."""
    layers = tuple(layer for layer in cost.layers if layer.name.split(".")[0] in parts)
    return Cost(sum(layer.params for layer in layers), sum(layer.madds for layer in layers), layers)


def param_counts(cost: Cost) -> tuple[int, int]:
    """Parameters with the batch norms' and without."""
    params = sum(layer.params for layer in cost.layers)
    return params, params - sum(layer.params for layer in cost.layers if layer.kind == "norm")


def without_activations(network: Any) -> Any:
    """The same network, its activations taken out: they cost nothing in the tables, and half the time of counting."""
    return _without(network, (nn.ReLU, nn.ReLU6, nn.Hardswish))


def without_norms(network: Any) -> Any:
    """The same network without batch norms, which change no map's size."""
    return _without(network, (nn.BatchNorm2d,))


def _without(network: Any, kinds: tuple[type, ...]) -> Any:
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, kinds):
                setattr(module, name, nn.Identity())
    return network


def compare(printed: str, exact: int, without_norms: int | None = None) -> str | None:
    """How a printed figure ("4.24 M", "569 M", "3,440,060") agrees with ours: "" if every printed digit is ours,
    rounded; "cut" if cut off; "no norms" if it is the count without them; None if not at all."""
    number, _, unit = printed.replace(",", "").partition(" ")
    digits = len(number.partition(".")[2])
    step = {"": 1, "M": 10**6, "G": 10**9}[unit] / 10**digits
    wanted = round(float(number) * 10**digits)
    for ours, name in ((exact, ""), (without_norms, "no norms")):
        if ours is not None and math.floor(ours / step + 0.5) == wanted:
            return name
        if ours is not None and math.floor(ours / step) == wanted:
            return f"{name}, cut" if name else "cut"
    return None


def remarks(printed: Sequence[Printed], note: str, params: int, without_norms: int, madds: int) -> str:
    """The last column: what the figures say by themselves, then the note. "differs" where neither says why."""
    said, unsaid = [], []
    for figures in printed:
        count = (params, without_norms) if figures.norms else (without_norms, None)
        for shown, exact, bare in ((figures.params, *count), (figures.madds, madds, None)):
            how = compare(shown, exact, bare) if shown else ""
            if how is None:
                unsaid.append(f"{shown} differs")
            elif how:
                said.append(f"{shown} {how}")
    return "; ".join([*dict.fromkeys(said), *([note] if note else unsaid)])


def named(name: str, options: dict[str, Any], *more: str) -> str:
    """`name`, option value, option value."""
    return ", ".join([name, *(key if value is True else f"{key} {value}" for key, value in options.items()), *more])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers are set to the right."""
    body = [tuple(row) for row in rows]
    right = [all(re.fullmatch(r"[0-9,.]+|too small", row[i]) for row in body) for i in range(len(head))]
    lines = [head, ["---:" if flag else "---" for flag in right], *body]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in lines)
