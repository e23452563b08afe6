"""TensorFlow.js graph models (`model.json` and weight shards) of the TF detection zoo -> a network of ours.

The published SSDLite MobileNet V2 COCO lies in this form: float32, batch norms folded in two ways (scale inside the
1x1 weights, or a multiplication after a depthwise convolution), the heads' norms whole. Nothing is executed: the graph
is read as data, the weights by the manifest's names, shapes and order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from detection.boxes.geometry import to_cxcywh
from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.weights.card import Card
from detection.weights.importers.assemble import assemble
from detection.weights.importers.graph import Convolution, DetectorGraph, Node, trace

DTYPES = {"float32": np.float32, "int32": np.int32, "uint8": np.uint8, "bool": np.bool_}
WEIGHT_SUFFIXES = ("/Conv2D/merged_input", "/depthwise_weights", "/weights")


def import_tfjs(path: Path) -> tuple[SSD, Card]:
    """A TensorFlow.js graph model of the TF detection zoo: the folder, or its model.json -> (network, card)."""
    return assemble(read_tfjs(path))


def read_tfjs(path: str | Path) -> DetectorGraph:
    """Reads a folder or its `model.json`. Raises BadWeightsError, one line, if a shard is missing or short, or the graph
    is no SSD."""
    path = Path(path)
    path = path / "model.json" if path.is_dir() else path
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
        raw_nodes, groups = model["modelTopology"]["node"], model["weightsManifest"]
    except OSError as error:
        raise BadWeightsError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise BadWeightsError(
            f"{path}: not a TensorFlow.js graph model (no modelTopology and weightsManifest)"
        ) from None
    constants = _read_weights(path, groups)
    by_name = {node["name"]: node for node in raw_nodes}
    nodes = [_node(node, constants, path) for node in raw_nodes if node["op"] != "Const"]
    concatenations = [node.output for node in nodes if node.op == "concatv2"]
    if "concat" not in concatenations or "concat_1" not in concatenations:
        raise BadWeightsError(f"{path}: has no box and class outputs (concat, concat_1), so it is no SSD of the TF zoo")
    trunk, box_heads, class_heads = trace(nodes, "concat", "concat_1", str(path))
    anchors = constants.get("Postprocessor/ExpandDims")
    if anchors is None or anchors.ndim != 3 or anchors.shape[-1] != 4:
        raise BadWeightsError(f"{path}: carries no anchors (Postprocessor/ExpandDims), so it is no SSD of the TF zoo")
    ymin_xmin = anchors[0][:, [1, 0, 3, 2]]
    scale, shift = _normalisation(constants, path)
    per_cell = box_heads[0].layers[-1].shape[0] // 4
    return DetectorGraph(
        file=str(path),
        trunk=trunk,
        box_heads=box_heads,
        class_heads=class_heads,
        anchors=to_cxcywh(ymin_xmin.astype(np.float64)).astype(np.float32),
        input_size=_input_size(by_name, constants, path),
        mean=(round(shift / scale, 4),) * 3,  # float32 holds 2/255 as 1/127.4999925
        std=(round(1 / scale, 4),) * 3,
        columns=class_heads[0].layers[-1].shape[0] // per_cell,
    )


def _read_weights(path: Path, groups: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    constants: dict[str, np.ndarray] = {}
    for group in groups:
        shards = []
        for name in group["paths"]:
            try:
                shards.append((path.parent / name).read_bytes())
            except OSError:
                raise BadWeightsError(f"{path}: its weight shard {name} is missing; put it beside model.json") from None
        data, at = b"".join(shards), 0
        for weight in group["weights"]:
            if "quantization" in weight or weight["dtype"] not in DTYPES:
                raise BadWeightsError(
                    f"{path}: weight {weight['name']} is stored as {weight['dtype']}, which is not supported"
                )
        sizes = [
            int(np.prod(w["shape"], dtype=np.int64)) * np.dtype(DTYPES[w["dtype"]]).itemsize for w in group["weights"]
        ]
        if len(data) < sum(sizes):
            short, shards_named = sum(sizes) - len(data), ", ".join(group["paths"])
            raise BadWeightsError(
                f"{path}: its weight shards end {short} bytes short ({shards_named}); fetch them again"
            )
        for weight, size in zip(group["weights"], sizes):
            dtype = np.dtype(DTYPES[weight["dtype"]])
            constants[weight["name"]] = np.frombuffer(data, dtype, size // dtype.itemsize, at).reshape(weight["shape"])
            at += size
    return constants


def _node(raw: dict[str, Any], constants: dict[str, np.ndarray], path: Path) -> Node:
    inputs = [name.split(":")[0].lstrip("^") for name in raw.get("input", [])]
    convolution = None
    if raw["op"] in ("Conv2D", "DepthwiseConv2dNative"):
        convolution = _convolution(raw, inputs, constants, path)
    return Node(raw["op"].lower(), raw["name"], [name for name in inputs if name not in constants], convolution)


def _convolution(
    raw: dict[str, Any], inputs: list[str], constants: dict[str, np.ndarray], path: Path
) -> Convolution | None:
    weight_name = next((name for name in inputs if name in constants), None)
    suffix = next((s for s in WEIGHT_SUFFIXES if weight_name and weight_name.endswith(s)), None)
    if weight_name is None or suffix is None:
        raise BadWeightsError(f"{path}: the weights of {raw['name']} are not where the TF zoo keeps them")
    scope, weight = weight_name[: -len(suffix)], constants[weight_name]
    depthwise = raw["op"] == "DepthwiseConv2dNative"
    # HWIO -> OIHW; depthwise HWC1 -> C1HW
    weight = weight.transpose(2, 3, 0, 1) if depthwise else weight.transpose(3, 2, 0, 1)
    batch_norm = scope + "/BatchNorm"
    whole = [constants.get(f"{batch_norm}/{part}") for part in ("gamma", "beta", "moving_mean", "moving_variance")]
    bias = constants.get(scope + "/biases", constants.get(batch_norm + "/batchnorm/sub"))
    scale = constants.get(batch_norm + "/batchnorm/mul")
    if scale is not None:
        weight = weight * scale.reshape(-1, 1, 1, 1)
    if bias is None and whole[0] is None:
        raise BadWeightsError(f"{path}: found neither bias nor batch norm for {scope}")
    zeros = np.zeros(weight.shape[0], np.float32)
    norm = None if whole[0] is None else (*whole, 0.001)
    strides = raw.get("attr", {}).get("strides", {}).get("list", {}).get("i", ["1", "1", "1", "1"])
    return Convolution(
        scope,
        np.ascontiguousarray(weight, np.float32),
        zeros if bias is None else bias,
        depthwise,
        int(strides[1]),
        norm,  # type: ignore[arg-type]
    )


def _normalisation(constants: dict[str, np.ndarray], path: Path) -> tuple[float, float]:
    scale, shift = constants.get("Preprocessor/mul/x"), constants.get("Preprocessor/sub/y")
    if scale is None or shift is None:
        raise BadWeightsError(f"{path}: its normalisation (Preprocessor/mul, sub) is not where the TF zoo keeps it")
    return float(scale), float(shift)


def _input_size(nodes: dict[str, Any], constants: dict[str, np.ndarray], path: Path) -> tuple[int, int]:
    resize = next((node for node in nodes.values() if node["op"] == "ResizeBilinear"), None)
    size = constants.get(resize["input"][1]) if resize else None
    if size is None:
        raise BadWeightsError(f"{path}: says nowhere what size it resizes images to")
    return int(size[0]), int(size[1])
