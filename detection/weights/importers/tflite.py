"""Published `.tflite` detectors and classifiers -> networks of ours, in real numbers.

Alpha, anchors, classes and normalisation are read from the file, never from its name: the file that TensorFlow calls
coco_ssd_mobilenet_v1_1.0 has alpha 0.75. Its backbone's ReLU6 stands nowhere as an operation, only as the saturation of
the uint8 outputs (range 0..6), so activations are the architecture's own, not the file's `fused_activation` field.
"""

from __future__ import annotations

from pathlib import Path

from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.weights.card import Card
from detection.weights.importers.assemble import assemble
from detection.weights.importers.flatbuffer import Model, Tensor, read_model
from detection.weights.importers.graph import DetectorGraph, trace


def import_tflite(path: Path) -> tuple[SSD, Card]:
    """A TensorFlow Lite SSD MobileNet, quantised or float -> (network, card)."""
    return assemble(read_tflite(path))


def read_tflite(path: str | Path) -> DetectorGraph:
    """Takes a `.tflite` SSD apart. Raises BadWeightsError where the file is damaged or holds no detector."""
    model = read_model(path)
    if model.post is None:
        raise BadWeightsError(f"{path}: holds no TFLite_Detection_PostProcess, so it is no detector (a classifier?)")
    return detector_graph(model)


def detector_graph(model: Model) -> DetectorGraph:
    assert model.post is not None
    boxes, scores, anchors = model.post
    trunk, box_heads, class_heads = trace(model.nodes, model.name(boxes), model.name(scores), model.file)
    mean, std = normalisation(model.tensors[model.inputs[0]])
    table = model.tensors[anchors]
    per_cell = box_heads[0].layers[-1].shape[0] // 4
    step = 0.0 if table.scale is None else float(table.scale.max())
    return DetectorGraph(
        file=model.file,
        trunk=trunk,
        box_heads=box_heads,
        class_heads=class_heads,
        anchors=table.real()[:, [1, 0, 3, 2]],  # y, x, h, w in the file
        input_size=(model.tensors[model.inputs[0]].shape[1], model.tensors[model.inputs[0]].shape[2]),
        mean=mean,
        std=std,
        columns=class_heads[0].layers[-1].shape[0] // per_cell,
        details={"anchor_step": step, "labels": model.labels},
    )


def normalisation(entry: Tensor) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std of pixels 0..255. A quantised input says it itself (real = (q - zero) * scale); a float one of the TF
    zoo wants -1..1."""
    if entry.integer and entry.scale is not None:
        zero = float(entry.zero[0]) if entry.zero is not None else 0.0
        scale = float(entry.scale[0])
        zero += 128 if zero < 0 or entry.zero is None else 0  # int8 inputs count from -128
        # A scale that is 1/128 or 1/127.5 to float32's precision is meant as that.
        return (zero,) * 3, (round(1 / scale, 4),) * 3
    return (127.5,) * 3, (127.5,) * 3
