"""Caffe's SSD MobileNet V1 (`.caffemodel` of chuanqi305's MobileNet-SSD and what was fine-tuned from it) -> a network of ours.

A .caffemodel holds the layers with their numbers, so no .prototxt is needed. Batch norms come merged into the
convolutions (merge_bn.py) or whole, as BatchNorm and Scale layers. Caffe need not be installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detection.boxes.anchors import AnchorSpec
from detection.boxes.class_names import VOC_20
from detection.errors import BadWeightsError
from detection.ssd.families import FRAMEWORKS
from detection.ssd.network import SSD
from detection.weights.card import Card
from detection.weights.importers.assemble import assemble
from detection.weights.importers.graph import Convolution, DetectorGraph, Node, trace
from detection.weights.importers.labels import labels_of
from detection.weights.importers.schema import read_message

CONVOLUTIONS = ("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise")
PASSES_ON = ("ReLU", "Split", "Permute", "Flatten", "Reshape", "Concat", "Softmax", "PriorBox")
ENDS = ("DetectionOutput", "MultiBoxLoss")  # of a net for detection, for training; first inputs: boxes, scores, priors
OURS = FRAMEWORKS["caffe"]


def import_caffe(path: Path) -> tuple[SSD, Card]:
    """A .caffemodel with an SSD MobileNet V1 -> (network, card). 20 classes without a labels.txt are VOC's."""
    return assemble(read_caffe(path))


def read_caffe(path: str | Path) -> DetectorGraph:
    """Raises BadWeightsError, one line, for a file that is damaged, holds no SSD, or one whose layers no network here has."""
    path = Path(path)
    net = read_message(path, "Net", "Caffe model")
    layers = [layer for layer in net.layer if layer.type not in ("Data", "AnnotatedData", "Input", "Silence")]
    end = next((layer for layer in layers if layer.type in ENDS and len(layer.bottom) >= 3), None)
    if end is None:
        raise BadWeightsError(f"{path}: no SSD detector: a Caffe model without a DetectionOutput layer ({net.name!r})")
    nodes, ends = _Layers(str(path)).nodes(layers, end)
    trunk, box_heads, class_heads = trace(nodes, ends[0], ends[1], str(path))
    labels = labels_of(path)
    columns = class_heads[0].layers[-1].shape[0] // (box_heads[0].layers[-1].shape[0] // 4)
    mean, std = _normalisation(net)
    priors = [layer.prior_box_param for layer in layers if layer.type == "PriorBox"]
    size = _input_size(net)
    if len(priors) != len(box_heads):
        raise BadWeightsError(f"{path}: {len(priors)} PriorBox layers for {len(box_heads)} feature maps")
    return DetectorGraph(
        file=str(path),
        trunk=trunk,
        box_heads=box_heads,
        class_heads=class_heads,
        anchors=None,
        layout=_anchors(priors, size, str(path)),
        input_size=size,
        mean=mean,
        std=std,
        color=OURS["input"]["color"],
        columns=columns,
        variances=_variances(priors),
        scores=OURS["scores"],
        padding=OURS["padding"],
        activation=OURS["activation"],
        norm_eps=OURS["norm_eps"],
        yx=False,
        details={"labels": list(VOC_20) if labels is None and columns == len(VOC_20) + 1 else labels},
    )


class _Layers:
    """Caffe's layers, most of which work in place, as nodes whose outputs are all different."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.tensors: dict[str, str] = {}  # a blob's name -> the tensor that it holds by now
        self.made: dict[str, Node] = {}

    def nodes(self, layers: Sequence[Any], end: Any) -> tuple[list[Node], list[str]]:
        for layer in layers:
            if layer is not end and not self._absorbed(layer):
                self._add(layer)
        missing = [name for name in end.bottom[:3] if name not in self.tensors]
        if missing:
            raise BadWeightsError(f"{self.file}: nothing makes {missing[0]}, which {end.name} reads")
        return list(self.made.values()), [self.tensors[name] for name in end.bottom[:3]]

    def _add(self, layer: Any) -> None:
        if layer.type not in (*CONVOLUTIONS, *PASSES_ON):
            raise BadWeightsError(f"{self.file}: has {layer.name} ({layer.type}), which no Caffe detector here has")
        inputs = [self.tensors.get(name, name) for name in layer.bottom]
        convolution = self._convolution(layer) if layer.type in CONVOLUTIONS else None
        for i, top in enumerate(layer.top):
            name = f"{layer.name}:{i}"
            op = "identity" if layer.type in ("Split", "Permute") else layer.type.lower()
            self.made[name] = Node(op, name, inputs, convolution)
            self.tensors[top] = name

    def _absorbed(self, layer: Any) -> bool:
        """BatchNorm and Scale behind a convolution go into it."""
        if layer.type not in ("BatchNorm", "Scale"):
            return False
        name = self.tensors.get(layer.bottom[0], "")
        before = self.made.get(name)
        if before is None or before.convolution is None:
            raise BadWeightsError(f"{self.file}: {layer.name} ({layer.type}) stands behind no convolution")
        source, blobs = before.convolution, [_array(blob) for blob in layer.blobs]
        if any(blob.size != len(source.weight) for blob in blobs[:2]) or len(blobs) < 2:
            raise BadWeightsError(f"{self.file}: {layer.name} does not fit {source.name}")
        ones = np.ones(len(source.weight), np.float32)
        if layer.type == "BatchNorm":
            count = float(blobs[2].ravel()[0]) if len(blobs) > 2 and blobs[2].size else 1.0
            mean, variance = (np.float32(0 if count == 0 else 1 / count) * blob.ravel() for blob in blobs[:2])
            eps = layer.batch_norm_param.eps if layer.batch_norm_param.HasField("eps") else 1e-5
            norm = (ones, 0 * ones, mean - source.bias, variance, round(float(eps), 9))
            before.convolution = replace(source, norm=norm, bias=0 * ones)
        elif source.norm is not None:
            _, _, mean, variance, eps = source.norm
            before.convolution = replace(source, norm=(blobs[0].ravel(), blobs[1].ravel(), mean, variance, eps))
        else:
            gamma, beta = blobs[0].ravel(), blobs[1].ravel()
            weight = source.weight * gamma.reshape(-1, 1, 1, 1)
            before.convolution = replace(source, weight=weight, bias=source.bias * gamma + beta)
        self.tensors[layer.top[0]] = name
        return True

    def _convolution(self, layer: Any) -> Convolution:
        rule = layer.convolution_param
        blobs = [_array(blob) for blob in layer.blobs]
        if not blobs or blobs[0].ndim != 4:
            raise BadWeightsError(f"{self.file}: {layer.name} holds no weights; is it a net without its training?")
        weight = blobs[0]
        bias = blobs[1].ravel() if len(blobs) > 1 else np.zeros(len(weight), np.float32)
        kernel, pad = weight.shape[2], rule.pad[0] if rule.pad else rule.pad_h
        if pad != kernel // 2 or any(d != 1 for d in rule.dilation) or len(bias) != len(weight):
            raise BadWeightsError(f"{self.file}: {layer.name} pads by {pad} or is dilated, which no network here is")
        stride = rule.stride[0] if rule.stride else rule.stride_h or 1
        depthwise = rule.group > 1 or layer.type != "Convolution"
        if depthwise and weight.shape[1] != 1:
            raise BadWeightsError(f"{self.file}: {layer.name} has {rule.group} groups, which no network here has")
        return Convolution(layer.name, weight, bias, depthwise, int(stride))


def _array(blob: Any) -> np.ndarray:
    """A blob's numbers in its shape, new (`shape`) or old (four numbers); numpy raises where they do not fit."""
    values = np.array(blob.data if blob.data else blob.double_data, np.float32)
    if blob.HasField("shape"):
        return values.reshape(tuple(blob.shape.dim))
    return values.reshape((blob.num, blob.channels, blob.height, blob.width))


def _normalisation(net: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Of a net for training its own, else chuanqi305's; mean and std in BGR's order."""
    for layer in net.layer:
        rule = layer.transform_param
        if layer.HasField("transform_param") and rule.mean_value and rule.scale > 0:
            mean = tuple(float(v) for v in rule.mean_value) if len(rule.mean_value) == 3 else (rule.mean_value[0],) * 3
            return (mean[0], mean[1], mean[2]), (1 / round(float(rule.scale), 8),) * 3
    return OURS["input"]["mean"], OURS["input"]["std"]


def _input_size(net: Any) -> tuple[int, int]:
    shapes = [list(shape.dim) for layer in net.layer for shape in layer.input_param.shape]
    shapes += [list(shape.dim) for shape in net.input_shape]
    shapes += [list(net.input_dim)]
    for shape in shapes:
        if len(shape) == 4:
            return int(shape[2]), int(shape[3])
    for layer in net.layer:
        size = layer.transform_param.resize_param
        if size.height and size.width:
            return int(size.height), int(size.width)
    return 300, 300


def _variances(priors: Sequence[Any]) -> tuple[float, float, float, float]:
    values = [round(float(v), 6) for v in priors[0].variance]
    x, y, w, h = values if len(values) == 4 else [values[0] if values else 0.1] * 4
    return x, y, w, h


def _anchors(priors: Sequence[Any], size: tuple[int, int], file: str) -> AnchorSpec:
    for prior in priors:
        flips = prior.flip if prior.HasField("flip") else True
        offset = prior.offset if prior.HasField("offset") else 0.5
        if (
            len(prior.min_size) != 1
            or len(prior.max_size) > 1
            or not flips
            or abs(offset - 0.5) > 1e-6
            or size[0] != size[1]
        ):
            raise BadWeightsError(f"{file}: its PriorBox layers follow rules that no network here has")
    steps = [prior.step or prior.step_h for prior in priors]
    options: dict[str, Any] = {
        "base": size[0],  # sizes and steps are pixels of the net's own input
        "min_sizes": [float(prior.min_size[0]) for prior in priors],
        "max_sizes": [float(prior.max_size[0]) if prior.max_size else None for prior in priors],
        "ratios": [[float(ratio) for ratio in prior.aspect_ratio if ratio != 1] for prior in priors],
    }
    if all(steps):
        options["steps"] = [float(step) for step in steps]
    if any(prior.clip for prior in priors):
        options["clamp"] = "all"
    return AnchorSpec("caffe", options)
