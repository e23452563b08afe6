"""Weights at another input size: a checkpoint becomes another checkpoint, an exported OpenVINO file another such file, with
the same numbers, int8 or not, and the padding of that size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detection.boxes.anchors import Size
from detection.errors import BadWeightsError
from detection.files import drop_damaged, home
from detection.runtimes.openvino_library import core, library
from detection.runtimes.openvino_model import convert, explained, only_raw_outputs, read_model, save
from detection.weights.card import Card
from detection.weights.card_check import spec_of
from detection.weights.formats import OPENVINO, SAFETENSORS, card_of
from detection.weights.importers.table import need_torch
from detection.weights.resize import card_at, network_at, refuse_exported, resize_weights
from detection.weights.resolve import Weights

RESIZER = 1  # raised whenever the same weights would become something else at the same size
CONVOLUTIONS = ("Convolution", "GroupConvolution")


def at_size(weights: Weights, size: int | Size) -> Weights:
    """`weights` at an input of `size` (pixels, or height and width), made once and kept in the cache:
    `MOBILESSD_HOME/resized/`. At their own size they are given back. An OpenVINO file that mobilessd exported, in int8 too,
    takes other sizes as a checkpoint does; other exported files have one.

    Raises MobileSSDError, one line, as `resize_weights`.
    """
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if (height, width) == weights.card.input_size:
        return weights
    graph = weights.exported and weights.format == OPENVINO
    if not graph:
        refuse_exported(weights)
    ending = OPENVINO.ending if graph else SAFETENSORS.ending
    path = home() / "resized" / f"{weights.path.stem}-{weights.sha256[:16]}-{RESIZER}-{height}x{width}{ending}"
    if path.exists():
        try:
            card_of(path)
        except BadWeightsError:
            drop_damaged(path)
    if not path.exists() and graph:
        _resize_graph(weights, (height, width), path)
    elif not path.exists():
        resize_weights(weights, (height, width), path, half=weights.card.precision == "float16")
    card = card_of(path)
    assert card is not None
    shown = f"{width}" if height == width else f"{width}x{height}"
    return Weights(path, card, f"{weights.source} at {shown}")


def _resize_graph(weights: Weights, size: Size, path: Path) -> None:
    need_torch(weights.source)
    other = network_at(weights, spec_of(weights.card, weights.source), size)
    write_resized(weights.path, other, card_at(weights.card, other, weights.card.name or weights.path.stem), path)


def write_resized(source: Path, other: Any, card: Card, target: Path) -> None:
    """Writes the exported file `source` (.xml) as `target` for the input size of `other`, the same network (an SSD) at
    that size, of which only the geometry counts. card: that of `target`.

    "Same" padding of a strided convolution lies on other sides for even and odd sizes; each convolution takes it from the one of
    its name in `other`. What int8 has measured, the ranges of activations, holds for every size. BadWeightsError, one
    line, where the graphs are not those of one network (boxes chosen inside the graph, another program's file).
    """
    model = only_raw_outputs(read_model(core(), source), source)
    pads = {node.get_friendly_name(): _pads(node) for node in _convolutions(convert(other))}
    nodes = _convolutions(model)
    if {node.get_friendly_name() for node in nodes} != set(pads):
        raise BadWeightsError(
            f"{source}: has convolutions other than this network when mobilessd exports it; it keeps its one input size"
        )
    height, width = card.input_size
    with explained(source):
        for node in nodes:  # first as much padding as either size needs, with which no map is too small for its kernel
            own, wanted = _pads(node), pads[node.get_friendly_name()]
            if own != wanted:
                _replace(node, *(list(map(max, *sides)) for sides in zip(own, wanted)))
        model.reshape({model.inputs[0]: [-1, height, width, 3]})
        for node in _convolutions(model):
            if _pads(node) != pads[node.get_friendly_name()]:
                _replace(node, *pads[node.get_friendly_name()])
        model.validate_nodes_and_infer_types()
    save(model, target, card.to_json())


def _convolutions(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() in CONVOLUTIONS]


def _pads(node: Any) -> tuple[list[int], list[int]]:
    attributes = node.get_attributes()
    return list(attributes["pads_begin"]), list(attributes["pads_end"])


def _replace(node: Any, before: list[int], after: list[int]) -> None:
    """The same convolution with other padding in the place of `node`."""
    operations = library().opset13
    kind = operations.convolution if node.get_type_name() == "Convolution" else operations.group_convolution
    attributes = node.get_attributes()
    made = kind(
        node.input_value(0), node.input_value(1), attributes["strides"], before, after, attributes["dilations"]
    )  # fmt: skip
    made.set_friendly_name(node.get_friendly_name())
    node.output(0).replace(made.output(0))
