"""Writes a network as ONNX or OpenVINO, with NMS inside where it is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detection.boxes.postprocess import PostSettings
from detection.export.onnx_nms import add_nms
from detection.runtimes import onnx_graph
from detection.runtimes.openvino_library import library
from detection.runtimes.openvino_model import convert, save
from detection.ssd.network import SSD, anchors_of
from detection.weights.card import Card
from detection.weights.formats import ONNX


def write_onnx(ssd: SSD, path: Path, card: Card, half: bool = False, nms: PostSettings | None = None) -> None:
    """half: weights stored as float16. nms: decoding and suppression go into the graph, by these rules."""
    onnx_graph.save(_graph(ssd, half, nms), path, card)


def write_openvino(ssd: SSD, path: Path, card: Card, half: bool = False, nms: PostSettings | None = None) -> None:
    """As `write_onnx`; NMS comes by way of ONNX, and needs the onnx package."""
    if nms is None:
        model = convert(ssd)
    else:
        temporary = path.with_suffix(ONNX.ending)
        onnx_graph.save(_graph(ssd, half, nms), temporary, card)
        model = library().convert_model(temporary)
    save(model, path, card.to_json(), half)


def _graph(ssd: SSD, half: bool, nms: PostSettings | None) -> Any:
    model = onnx_graph.convert(ssd)
    if nms is not None:
        add_nms(model, anchors_of(ssd), ssd.spec.coder, nms)
    if half:
        onnx_graph.halve(model)
    return model
