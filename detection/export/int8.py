"""Post-training quantisation of a graph: NNCF for OpenVINO, onnxruntime's own for ONNX, ai-edge-quantizer for TensorFlow
Lite. None needs our network.

Weights are int8 for each output channel, activations uint8 or int8 for each tensor; what a plan leaves out stays
float32, and so do input and outputs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detection.export.calibration import Int8Plan, kept_float
from detection.export.tflite_graph import Graph
from detection.runtimes import onnx_graph
from detection.runtimes.interfaces import fed_as_floats
from detection.runtimes.openvino_library import core, without
from detection.runtimes.openvino_model import only_raw_outputs, read_model, save
from detection.weights.card import Card
from detection.weights.card_files import add_tflite_card

THREADS = os.cpu_count() or 1


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
    save(quantised, target, card.to_json())
    return kept


def quantize_onnx(source: Path, target: Path, card: Card, images: np.ndarray, plan: Int8Plan) -> list[str]:
    """Writes the int8 form (QDQ) of an ONNX file; returns the layers left in float32."""
    model, kept = _qdq(source, target.parent, plan, _Reader("pictures", images[:, None]), symmetric=False)
    onnx_graph.save(model, target, card)
    return kept


def quantize_symmetric(source: Path, target: Path, card: Card, images: np.ndarray, plan: Int8Plan) -> list[str]:
    """As `quantize_onnx`, of a core graph (`runtimes.interfaces`, "core"): zero points are 0, activations int8, biases stay
    float32, and what enters a layer is rounded, not what leaves it, so that TensorRT can join layers."""
    fed = (fed_as_floats(image) for image in images)
    model, kept = _qdq(source, target.parent, plan, _Reader("images", fed), symmetric=True)
    onnx_graph.save(model, target, card)
    return kept


SYMMETRIC = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    "QuantizeBias": False,
    "DedicatedQDQPair": True,
}


def _qdq(source: Path, folder: Path, plan: Int8Plan, reader: _Reader, symmetric: bool) -> tuple[Any, list[str]]:
    """The quantised graph, made in `folder`, and the layers left in float32."""
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(source).graph
    kept = kept_float([node.name for node in graph.node if node.op_type == "Conv"], plan)
    types = ["Conv", "Add"] if symmetric else ["Conv", "Clip", "Relu", "Add", "HardSigmoid", "Mul", "GlobalAveragePool"]
    with tempfile.TemporaryDirectory(dir=folder) as temporary, quiet():
        made = Path(temporary) / "made.onnx"
        quantization.quantize_static(
            str(source),
            str(made),
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=types,
            nodes_to_exclude=[*kept, *_normalisation(graph)],
            per_channel=True,
            activation_type=quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options=SYMMETRIC | {"OpTypesToExcludeOutputQuantization": types} if symmetric else None,
        )
        return onnx.load(made), kept


def quantize_tflite(source: Path, target: Path, card: Card, images: np.ndarray, plan: Int8Plan) -> list[str]:
    """Writes the int8 form of a .tflite file of ours; returns the layers left in float32."""
    graph = Graph(source)
    by_words = {name.replace("_", "/"): name for name in graph.convolutions()}  # the names of modules as words
    kept = sorted(by_words[words] for words in kept_float(list(by_words), plan))
    signature, given = graph.signature()
    with quiet():
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

        work, operation = quantizer.Quantizer(str(source)), qtyping.TFLOperationName
        never = algorithm_manager.AlgorithmName.NO_QUANTIZE
        work.add_static_config(".*", operation.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
        work.update_quantization_recipe(".*", operation.OUTPUT, None, never)
        for name in kept:
            exactly = f"^{re.escape(name)};$"  # as it names an operator: by its outputs, each with a semicolon
            work.update_quantization_recipe(exactly, operation.ALL_SUPPORTED, None, never)
        ranges = work.calibrate({signature: [{given: image[None]} for image in images]}, num_threads=THREADS)
        made = work.quantize(ranges, enable_progress_report=False).quantized_model
    target.write_bytes(made)
    graph = Graph(target)
    graph.enter_bytes()
    graph.write(target)
    add_tflite_card(target, card.to_json())
    return kept


class _Reader:
    """onnxruntime's CalibrationDataReader: one image after the other, as the input `name` takes it, then None."""

    def __init__(self, name: str, images: Iterable[np.ndarray]) -> None:
        self._name, self._left = name, iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._left, None)
        return None if image is None else {self._name: image}


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
