"""The part of docs/tables.md that goes through the two papers table by table: what they print beside what we count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

from backbones import Cost
from backbones.counting import Layer
from detection.cli import tables_papers as papers
from detection.cli import tables_text as text
from detection.cli.tables_count import (
    classifier_cost,
    detector_cost,
    only,
    param_counts,
    remarks,
    table,
    torchvision_cost,
    two_stage_cost,
)

Cells = tuple[str, ...]


def paper_pages() -> list[str]:
    """Headings and Markdown tables of both papers and of the networks that they compare with."""
    separable, convolution = (_one_layer(is_separable, 1, 1) for is_separable in (True, False))
    layer = text.V1_LAYER.replace(
        "SEPARABLE", f"{separable[0] / convolution[0]:.4f} = 1/{convolution[0] / separable[0]:.2f}"
    )
    body = text.V1_PLANET.replace("BODY", f"{_cost(papers.v1(classes=0)).params:,}")
    shares = ("type", "multiply-adds, %", "ours", "parameters, %", "ours", "remarks")
    usage = ("layer", "million multiply-adds", "ours", "million parameters", "ours", "remarks")
    v1 = {
        1: ["### Table 1: MobileNet body architecture",
            table(("type / stride", "filter shape", "input size", "ours", "remarks"), _v1_body())],
        2: [text.V1_SHARES, table(shares, _v1_shares())],
        3: [layer, table(usage, _v1_layer())],
        11: [body, table(("scale", "Im2GPS", "PlaNet", "PlaNet MobileNet"), papers.V1_PLANET)],
    } | {each.number: _networks(each) for each in papers.V1_TABLES}  # fmt: skip
    memory = ("size", "MobileNet V1", "ours", "MobileNet V2", "ours", "ShuffleNet, cited", "remarks")
    v2 = {
        1: [text.V2_BLOCK, table(("input", "operator", "output", "multiply-adds"), _v2_block())],
        2: ["### Table 2: MobileNetV2 architecture",
            table(("input", "operator", "t", "c", "n", "s", "ours"), _v2_body())],
        3: [text.V2_MEMORY, table(memory, _v2_memory())],
    } | {each.number: _networks(each) for each in papers.V2_TABLES}  # fmt: skip
    compared = table(("network", "printed", "parameters", "multiply-adds", "remarks"), map(_row, papers.COMPARED))
    v1_parts, v2_parts = ([part for number in sorted(tables) for part in tables[number]] for tables in (v1, v2))
    return [text.V1_PAPER, *v1_parts, text.V2_PAPER, *v2_parts, text.COMPARED, compared]


def _networks(each: papers.Table) -> list[str]:
    """A paper's table of whole networks."""
    title = f"### Table {each.number}: {each.title}"
    said = f"{title}\n\nThe last printed figure: {each.score}." if each.score else title
    if any(isinstance(row.network, papers.TwoStage) for row in each.rows):
        said += f"\n\n{text.TWO_STAGE}"
    return [said, table(("model", "printed", "parameters", "multiply-adds", "remarks"), map(_row, each.rows))]


def _row(row: papers.Row) -> Cells:
    if row.network is None:
        return (row.label, str(row.printed), "", "", row.note)
    cost = _cost(row.network)
    params, bare = param_counts(cost)
    return (
        row.label, str(row.printed), f"{params:,}", f"{cost.madds:,}",
        remarks([row.printed], row.note, params, bare, cost.madds),
    )  # fmt: skip


def _cost(network: papers.Classifier | papers.Detector | papers.Torchvision | papers.TwoStage) -> Cost:
    if isinstance(network, papers.TwoStage):
        return two_stage_cost(network.name, network.size, network.columns, network.proposals)
    options = tuple(network.options.items())
    if isinstance(network, papers.Detector):
        _, cost, _ = detector_cost(network.name, network.columns, options)
        return only(cost, network.parts) if network.parts else cost
    if isinstance(network, papers.Torchvision):
        return torchvision_cost(network.name, network.size, network.classes, options)
    cost = classifier_cost(network.name, network.size, network.classes or 1, options)
    return cost if network.classes else only(cost, ("backbone",))


def _convolutions(name: str) -> Iterator[tuple[Layer, tuple[int, ...]]]:
    """The layers of a classifier but its norms, each with the shape of its input, (channels, height, width)."""
    shape: tuple[int, ...] = (3, 224, 224)
    for layer in classifier_cost(name, 224, 1000, (("alpha", 1.0),) if name == "mobilenet_v1" else ()).layers:
        if layer.kind != "norm":
            yield layer, shape
            shape = layer.output_shape


def _v1_body() -> Iterator[Cells]:
    """Table 1: a line of our network is its layer's type, stride, filter and input, from shapes and parameters."""
    for (kind, filters, size), (layer, (channels, *sides)) in zip(
        papers.V1_BODY, _convolutions("mobilenet_v1"), strict=True
    ):
        if layer.kind == "linear":
            ours = ("FC / s1", f"{channels} x {layer.output_shape[0]}", f"1 x 1 x {channels}")
        else:
            stride = round(sides[0] / layer.output_shape[1])
            depthwise = layer.kind == "depthwise"
            kernel = math.isqrt(layer.params // (channels if depthwise else channels * layer.output_shape[0]))
            shape = f"{channels} dw" if depthwise else f"{channels} x {layer.output_shape[0]}"
            ours = (
                f"Conv{' dw' if depthwise else ''} / s{stride}", f"{kernel} x {kernel} x {shape}",
                f"{sides[0]} x {sides[1]} x {channels}",
            )  # fmt: skip
        different = [mine for mine, printed in zip(ours, (kind, filters, size)) if mine != printed]
        note = papers.V1_BODY_NOTES.get(filters, "differs") if different else ""
        yield kind, filters, size, ", ".join(different) or "the same", note


def _v1_shares() -> Iterator[Cells]:
    """Table 2, whose parameters are those without norms and without the last layer's bias."""
    cost = _cost(papers.v1())
    kinds = {kind: both for kind, both in cost.by_kind().items() if kind != "norm"}
    kinds["linear"] = (kinds["linear"][0] - 1000, kinds["linear"][1])
    params, madds = (sum(both[i] for both in kinds.values()) for i in (0, 1))
    for kind, label, printed_madds, printed_params, note in papers.V1_SHARES:
        ours = (f"{100 * kinds[kind][1] / madds:.2f}", f"{100 * kinds[kind][0] / params:.2f}")
        reason = note if ours != (printed_madds, printed_params) else ""
        unsaid = "differs" if ours != (printed_madds, printed_params) and not note else reason
        yield label, printed_madds, ours[0], printed_params, ours[1], unsaid


def _one_layer(separable: bool, alpha: float, rho: float) -> tuple[int, int]:
    """Multiply-adds and weights of one 3x3 layer, 512 to 512 channels at 14 x 14, equations 2 to 7 of the V1 paper."""
    channels, side = round(512 * alpha), round(14 * rho)
    weights = 9 * channels + channels**2 if separable else 9 * channels**2
    return weights * side**2, weights


def _v1_layer() -> Iterator[Cells]:
    for label, separable, alpha, rho, madds, params in papers.V1_LAYER:
        ours = _one_layer(separable, alpha, rho)
        shown = [papers.Printed(f"{params} M", f"{madds} M")]
        yield label, madds, f"{ours[0]:,}", params, f"{ours[1]:,}", remarks(shown, "", ours[1], ours[1], ours[0])


def _v2_block() -> Iterator[Cells]:
    """Table 1: block 11 of MobileNet V2, its first with 96 channels."""
    block = {
        layer.name.split(".")[3]: (layer, shape)
        for layer, shape in _convolutions("mobilenet_v2")
        if layer.name.startswith("backbone.blocks.10.")
    }
    rows = (
        ("expand", "h x w x k", "1x1 conv2d, ReLU6", "h x w x (tk)"),
        ("depthwise", "h x w x tk", "3x3 dwise s=s, ReLU6", "h/s x w/s x (tk)"),
        ("project", "h/s x w/s x tk", "linear 1x1 conv2d", "h/s x w/s x k'"),
    )
    for part, before, operator, after in rows:
        layer, shape = block[part]
        ours = [" x ".join(map(str, (*size[1:], size[0]))) for size in (shape, layer.output_shape)]
        yield f"{before}: {ours[0]}", operator, f"{after}: {ours[1]}", f"{layer.madds:,}"


def _v2_body() -> Iterator[Cells]:
    """Table 2: t, c, n and s of our blocks, from their shapes; consecutive blocks of one width are one line."""
    lines: list[list[str]] = []
    for block, group in groupby(_convolutions("mobilenet_v2"), key=lambda pair: pair[0].name.rpartition(".")[0][:18]):
        layers = list(group)
        (channels, side, *_), (width, *sides) = layers[0][1], layers[-1][0].output_shape
        if layers[0][0].name == "fc":
            continue
        if block.startswith("backbone.blocks"):
            depthwise = layers[-2][0].output_shape[0]
            t, operator = str(depthwise // channels), "bottleneck"
        else:
            t, operator = "-", "conv2d" if layers[0][0].kind == "convolution" else "conv2d 1x1"
        if lines and operator == "bottleneck" and lines[-1][3] == str(width):
            lines[-1][4] = str(int(lines[-1][4]) + 1)
        else:
            lines.append([f"{side} x {channels}", operator, t, str(width), "1", str(side // sides[0])])
    for printed, ours in zip(papers.V2_BODY, lines, strict=True):
        yield *printed, "the same" if tuple(ours) == printed else "differs: " + ", ".join(ours)


def _v2_memory() -> Iterator[Cells]:
    """Table 3: the most channels of a block's end at each size, and its memory at 16 bits."""
    most: dict[tuple[str, int], int] = {}
    for name, ends in (("mobilenet_v1", {"pointwise"}), ("mobilenet_v2", {"project"})):
        for layer, _ in _convolutions(name):
            if {*layer.name.split(".")} & ends:
                channels, side, _ = layer.output_shape
                most[name, side] = max(channels, most.get((name, side), 0))
        most[name, 1] = 1024 if name == "mobilenet_v1" else 1280  # what the last layer takes, pooled
    for side, v1, v2, shuffle in papers.V2_MEMORY:
        ours = [
            f"{most[name, side]}/{2 * most[name, side] * side**2 // 1000}" for name in ("mobilenet_v1", "mobilenet_v2")
        ]
        yield f"{side} x {side}", v1, ours[0], v2, ours[1], shuffle, papers.V2_MEMORY_NOTES.get(side, "")
