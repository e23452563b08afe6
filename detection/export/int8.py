"""Post-training quantisation of a graph: NNCF for OpenVINO, onnxruntime's own for ONNX. Neither needs our network.

Weights are int8 for each output channel, activations uint8 or int8 for each tensor; what a plan leaves out stays
float32, and so do input and outputs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detection.export.calibration import Int8Plan, kept_float
from detection.runtimes import onnx_graph, openvino
from detection.runtimes.openvino import core, only_raw_outputs, read_model, without
from detection.weights.card import Card


def quantize_openvino(source: Path, target: Path, card: Card, images: np.ndarray, plan: Int8Plan) -> list[str]:
    """Writes the int8 form of an OpenVINO or ONNX file as an OpenVINO file; returns the layers left in float32."""
    with without("openvino_telemetry"), quiet():
        import nncf
    model = only_raw_outputs(read_model(core(), source), source)
    model.reshape([1, *images.shape[1:]])
    names = [op.get_friendly_name() for op in model.get_ordered_ops() if "Convolution" in op.get_type_name()]
    kept = kept_float(names, plan)
    with quiet():
        nncf.set_log_level(logging.ERROR)
        quantised = nncf.quantize(
            model,
            nncf.Dataset(images[:, None]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
        )
    quantised.reshape([-1, *images.shape[1:]])
    openvino.save(quantised, target, card.to_json())
    return kept


def quantize_onnx(source: Path, target: Path, card: Card, images: np.ndarray, plan: Int8Plan) -> list[str]:
    """Writes the int8 form (QDQ) of an ONNX file; returns the layers left in float32."""
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(source).graph
    kept = kept_float([node.name for node in graph.node if node.op_type == "Conv"], plan)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, quiet():
        made = Path(folder) / "made.onnx"
        quantization.quantize_static(
            str(source),
            str(made),
            _Reader(images),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add", "HardSigmoid", "Mul", "GlobalAveragePool"],
            nodes_to_exclude=[*kept, *_normalisation(graph)],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        model = onnx.load(made)
    onnx_graph.save(model, target, card)
    return kept


class _Reader:
    """onnxruntime's CalibrationDataReader: one image after the other, then None."""

    def __init__(self, images: np.ndarray) -> None:
        self._left = iter(images[:, None])

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._left, None)
        return None if image is None else {"pictures": image}


def _normalisation(graph: Any) -> list[str]:
    """The nodes before the first convolution: eight bits come in and go on, but what lies between stays exact."""
    names = []
    for node in graph.node:
        if node.op_type == "Conv":
            break
        names.append(node.name)
    return names


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Both libraries narrate on stdout and by way of logging."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
