"""The page docs/tables.md: every published figure beside ours.

Ours are counted from the networks that we build; what is printed elsewhere stands in `tables_published`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backbones.shapes import shapes_only
from detection.boxes.anchors import AnchorSpec, Size
from detection.cli import tables_text as text
from detection.cli.info_model import numbers
from detection.cli.tables_count import (
    classifier_cost,
    detector_cost,
    named,
    only,
    param_counts,
    remarks,
    table,
    without_activations,
    without_norms,
)
from detection.cli.tables_papers_page import paper_pages
from detection.cli.tables_published import DETECTORS, RESULTS, V1, V2, V3, V4, ClassifierRow, DetectorRow
from detection.errors import MobileSSDError
from detection.ssd.families import FRAMEWORKS
from detection.ssd.network import SSD, feature_maps
from detection.weights.names import spec_for
from detection.weights.records import RECORDS

SIZES = (128, 192, 224, 256, 300, 320, 384, 416, 512, 640)


def page() -> str:
    """All tables in Markdown, without an end of line at the end."""
    ours = ("parameters", "no norms", "multiply-adds")
    classifiers = ("network", "input", "paper", "slim", *ours, "remarks")
    layouts = ("layout", "input", "padding", "norm eps", "momentum", "activation", "scores", "anchors", "how many")
    parts = [text.INTRO]
    parts += [text.V1, table(classifiers, map(_classifier, V1))]
    parts += [text.V2, table(classifiers, map(_classifier, V2))]
    parts += [text.V3, table(("network", "input", "printed", *ours, "remarks"), map(_classifier, V3))]
    parts += [text.V4, table(("network", "input", "printed", *ours, "remarks"), map(_classifier, V4))]
    head = ("detector", "columns", "input", "printed", *ours, "anchors", "remarks")
    parts += [text.DETECTORS, table(head, map(_detector, DETECTORS))]
    parts += paper_pages()
    parts += [text.ANCHORS, table(("anchors", *map(str, SIZES)), _anchor_rows())]
    parts += [text.LAYOUTS, table(layouts, _layout_rows())]
    parts += [text.RESULTS, table(("published", "our name for the network", "AP", "split"), RESULTS)]
    parts += [text.WEIGHTS, table(("name", "figures", "data", "images", "protocol"), _weights_rows())]
    return "\n\n".join(parts)


def _classifier(row: ClassifierRow) -> tuple[str, ...]:
    cost = classifier_cost(row.name, row.size, row.classes, tuple(row.options.items()))
    params, bare = param_counts(cost)
    name = named(row.name, row.options | ({"classes": row.classes} if row.classes != 1000 else {}))
    last = remarks(row.printed, row.note, params, bare, cost.madds)
    return (name, str(row.size), *map(str, row.printed), f"{params:,}", f"{bare:,}", f"{cost.madds:,}", last)


def _detector(row: DetectorRow) -> tuple[str, ...]:
    spec, cost, anchors = detector_cost(row.name, row.columns, tuple(row.options.items()), row.six)
    if row.parts:
        cost = only(cost, row.parts)
    params, bare = param_counts(cost)
    options = {key: value for key, value in row.options.items() if key != "input_size"}
    more = [f"only {' and '.join(row.parts)}"] if row.parts else ["six anchors everywhere"] if row.six else []
    numbers = (f"{params:,}", f"{bare:,}", f"{cost.madds:,}", f"{anchors:,}")
    printed, last = "; ".join(map(str, row.printed)), remarks(row.printed, row.note, params, bare, cost.madds)
    return (named(row.name, options, *more), str(row.columns), str(spec.input.size[0]), printed, *numbers, last)


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
        with shapes_only():
            ssd = without_norms(without_activations(SSD(spec)))
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
        spec, _, anchors = detector_cost(name, 81, (("layout", layout),), False)
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
