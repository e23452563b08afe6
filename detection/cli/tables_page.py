"""The page docs/tables.md: every published figure beside ours.

Ours are counted from the networks that we build; what is printed elsewhere stands in `tables_published`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import nn

from backbones import Cost, build_classifier, count
from detection.boxes.anchors import AnchorSpec, Size
from detection.cli import tables_text as text
from detection.cli.info_model import numbers
from detection.cli.tables_published import DETECTORS, RESULTS, V1, V2, V3, ClassifierRow, DetectorRow, Printed
from detection.errors import MobileSSDError
from detection.ssd.families import FRAMEWORKS
from detection.ssd.network import SSD, anchors_of, feature_maps
from detection.ssd.spec import SSDSpec
from detection.weights.names import spec_for
from detection.weights.records import RECORDS

SIZES = (128, 192, 224, 256, 300, 320, 384, 416, 512, 640)


def page() -> str:
    """All tables in Markdown, without an end of line at the end."""
    ours = ("parameters", "no norms", "multiply-adds")
    classifiers = ("network", "input", "paper", "slim", *ours, "remarks")
    layouts = ("layout", "input", "padding", "norm eps", "momentum", "activation", "scores", "anchors", "how many")
    parts = [text.INTRO]
    parts += [text.V1, _table(classifiers, map(_classifier, V1))]
    parts += [text.V2, _table(classifiers, map(_classifier, V2))]
    parts += [text.V3, _table(("network", "input", "printed", *ours, "remarks"), map(_classifier, V3))]
    head = ("detector", "columns", "input", "printed", *ours, "anchors", "remarks")
    parts += [text.DETECTORS, _table(head, map(_detector, DETECTORS))]
    parts += [text.ANCHORS, _table(("anchors", *map(str, SIZES)), _anchor_rows())]
    parts += [text.LAYOUTS, _table(layouts, _layout_rows())]
    parts += [text.RESULTS, _table(("published", "our name for the network", "AP", "split"), RESULTS)]
    parts += [text.WEIGHTS, _table(("name", "figures", "data", "images", "protocol"), _weights_rows())]
    return "\n\n".join(parts)


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


def _classifier(row: ClassifierRow) -> tuple[str, ...]:
    cost = _classifier_cost(row.name, row.size, row.classes, tuple(row.options.items()))
    params, bare = _params(cost)
    name = _named(row.name, row.options | ({"classes": row.classes} if row.classes != 1000 else {}))
    last = remarks(row.printed, row.note, params, bare, cost.madds)
    return (name, str(row.size), *map(str, row.printed), f"{params:,}", f"{bare:,}", f"{cost.madds:,}", last)


@cache
def _classifier_cost(name: str, size: int, classes: int, options: tuple[tuple[str, Any], ...]) -> Cost:
    with torch.device("meta"):  # shapes are enough
        network = build_classifier(name, classes, **dict(options))
    return count(_without_activations(network), size)


def _detector(row: DetectorRow) -> tuple[str, ...]:
    spec, cost, anchors = _detector_cost(row.name, row.columns, tuple(row.options.items()), row.six)
    if row.parts:
        layers = tuple(layer for layer in cost.layers if layer.name.split(".")[0] in row.parts)
        cost = replace(cost, layers=layers, madds=sum(layer.madds for layer in layers))
    params, bare = _params(cost)
    options = {key: value for key, value in row.options.items() if key != "input_size"}
    more = [f"only {' and '.join(row.parts)}"] if row.parts else ["six anchors everywhere"] if row.six else []
    numbers = (f"{params:,}", f"{bare:,}", f"{cost.madds:,}", f"{anchors:,}")
    printed, last = "; ".join(map(str, row.printed)), remarks(row.printed, row.note, params, bare, cost.madds)
    return (_named(row.name, options, *more), str(row.columns), str(spec.input.size[0]), printed, *numbers, last)


@cache
def _detector_cost(
    name: str, columns: int, options: tuple[tuple[str, Any], ...], six: bool
) -> tuple[SSDSpec, Cost, int]:
    """Spec, cost and number of anchors; six: six anchors in every cell."""
    spec = spec_for(name, num_classes=columns - 1, **dict(options))
    if six:
        spec = replace(spec, anchors=AnchorSpec("tensorflow", {"reduce_lowest": False}))
    with torch.device("meta"):
        ssd = _without_activations(SSD(spec))
    return spec, count(ssd, spec.input.size), len(anchors_of(_without_norms(ssd)))


def _anchor_rows() -> Iterator[tuple[str, ...]]:
    lite, fine = spec_for("ssdlite_mobilenet_v2"), spec_for("ssdlite_mobilenet_v2", stride8=True)
    six = AnchorSpec("tensorflow", {"reduce_lowest": False})
    others = {name: spec_for(name) for name in ("ssd_mobilenet_v2_fpnlite", "ssd300_vgg16", "ssd512_vgg16")}
    networks = (
        (lite, {"six a cell, on the first map three (layout tensorflow)": lite.anchors, "six a cell": six}),
        (fine, {"layout tensorflow, stride8=True": fine.anchors}),
        *((spec, {name: spec.anchors}) for name, spec in others.items()),
    )
    for spec, layouts in networks:
        with torch.device("meta"):
            ssd = _without_norms(_without_activations(SSD(spec)))
        maps: list[tuple[Size, ...]] = []
        for size in SIZES:
            try:
                maps.append(feature_maps(ssd, (size, size)))
            except MobileSSDError:
                maps.append(())
        for title, layout in layouts.items():
            yield (title, *(_anchors(layout, sizes, size) for sizes, size in zip(maps, SIZES)))


def _anchors(layout: AnchorSpec, maps: Sequence[Size], size: int) -> str:
    """How many anchors these maps have; no maps: the input is too small for them."""
    per_cell = layout.per_cell(len(maps), (size, size)) if maps else ()
    return f"{sum(h * w * number for (h, w), number in zip(maps, per_cell)):,}" if maps else "too small"


def _layout_rows() -> Iterator[tuple[str, ...]]:
    for layout in FRAMEWORKS:
        name = "ssd_mobilenet_v1" if layout == "caffe" else "ssdlite_mobilenet_v2"
        spec, _, anchors = _detector_cost(name, 81, (("layout", layout),), False)
        rule = f"{spec.input.color.upper()}, (x - {numbers(spec.input.mean)}) / {numbers(spec.input.std)}"
        norm = (f"{spec.norm_eps:g}", f"{spec.norm_momentum:g}")
        how_many = f"{anchors:,} at {spec.input.size[0]}"
        yield (layout, rule, spec.padding, *norm, spec.activation, spec.scores, spec.anchors.layout, how_many)


def _weights_rows() -> Iterator[tuple[str, ...]]:
    for record in RECORDS:
        for metric in record.metrics:
            figures = ", ".join(f"{key} {value:.3f}" for key, value in metric.items() if isinstance(value, float))
            data = f"{metric['data']}, {metric['split']}"
            yield (f"`{record.name}`", figures, data, f"{metric['images']:,}", metric["protocol"])


def _params(cost: Cost) -> tuple[int, int]:
    """Parameters with the batch norms' and without."""
    params = sum(layer.params for layer in cost.layers)
    return params, params - sum(layer.params for layer in cost.layers if layer.kind == "norm")


def _without_activations(network: Any) -> Any:
    """The same network, its activations taken out: they cost nothing in the tables, and half the time of counting."""
    return _without(network, (nn.ReLU, nn.ReLU6, nn.Hardswish))


def _without_norms(network: Any) -> Any:
    """The same network without batch norms, which change no map's size."""
    return _without(network, (nn.BatchNorm2d,))


def _without(network: Any, kinds: tuple[type, ...]) -> Any:
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, kinds):
                setattr(module, name, nn.Identity())
    return network


def _named(name: str, options: dict[str, Any], *more: str) -> str:
    """`name`, option value, option value."""
    return ", ".join([name, *(key if value is True else f"{key} {value}" for key, value in options.items()), *more])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers are set to the right."""
    body = [tuple(row) for row in rows]
    right = [all(re.fullmatch(r"[0-9,.]+|too small", row[i]) for row in body) for i in range(len(head))]
    lines = [head, ["---:" if flag else "---" for flag in right], *body]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in lines)
