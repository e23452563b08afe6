"""TensorFlow.js graph models (`model.json` and weight shards) of the TF detection zoo -> a network of ours.

The published SSDLite MobileNet V2 COCO lies in this form: float32, batch norms folded in two ways (scale inside the
1x1 weights, or a multiplication after a depthwise convolution), the heads' norms whole. Nothing is executed: the graph
is read as data, the weights by the manifest's names, shapes and order. `tensorflow` makes a detector of it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import BadWeightsError, quoted, some
from detection.ssd.network import SSD
from detection.weights.card import Card
from detection.weights.guard import read_beside, read_whole
from detection.weights.importers.assemble import assemble
from detection.weights.importers.folding import Operation
from detection.weights.importers.graph import DetectorGraph
from detection.weights.importers.labels import labels_of
from detection.weights.importers.tensorflow import read_detector

LARGEST_JSON = 1 << 24  # bytes of model.json
DTYPES = {"float32": np.float32, "int32": np.int32, "uint8": np.uint8, "bool": np.bool_}


def import_tfjs(path: Path) -> tuple[SSD, Card]:
    """A TensorFlow.js graph model of the TF detection zoo: the folder, or its model.json -> (network, card)."""
    return assemble(read_tfjs(path))


def read_tfjs(path: str | Path) -> DetectorGraph:
    """Reads a folder or its `model.json`. Raises BadWeightsError, one line, if a shard is missing or short, or the graph
    is no SSD."""
    path = Path(path)
    path = path / "model.json" if path.is_dir() else path
    data = read_whole(path, LARGEST_JSON, "a TensorFlow.js graph")
    try:
        model = json.loads(data)
        raw_nodes, groups = model["modelTopology"]["node"], model["weightsManifest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadWeightsError(
            f"{path}: not a TensorFlow.js graph model (no modelTopology and weightsManifest)"
        ) from None
    constants = _read_weights(path, groups)
    found = read_detector((_operation(node, constants) for node in raw_nodes), str(path))
    found.details["labels"] = labels_of(path)
    return found


def _operation(raw: dict[str, Any], constants: dict[str, np.ndarray]) -> Operation:
    inputs = tuple(name for name in raw.get("input", []) if not name.startswith("^"))
    if raw["op"] == "Const":
        return Operation("Const", raw["name"], (), {"value": constants[raw["name"]]})
    attributes = {name: _plain(value) for name, value in raw.get("attr", {}).items()}
    return Operation(raw["op"], raw["name"], inputs, attributes)


def _plain(value: dict[str, Any]) -> Any:
    """An attribute as protobuf's JSON has it: integers as texts, texts as lists of bytes."""
    (kind, inner), *_ = [*value.items(), (None, None)]
    if kind == "list":
        return [int(i) for i in inner.get("i", [])]
    if kind == "s":
        return bytes(inner) if isinstance(inner, list) else str(inner)
    return {"i": int, "f": float, "b": bool}.get(str(kind), lambda other: other)(inner)


def _read_weights(path: Path, groups: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    constants: dict[str, np.ndarray] = {}
    names = [name for group in groups for name in group["paths"]]
    if len(set(names)) < len(names):
        raise BadWeightsError(f"{path}: names a weight shard twice")
    for group in groups:
        for weight in group["weights"]:
            if "quantization" in weight or weight["dtype"] not in DTYPES:
                raise BadWeightsError(
                    f"{path}: weight {weight['name']} is stored as {weight['dtype']}, which is not supported"
                )
            if min(weight["shape"], default=0) < 0:
                raise BadWeightsError(f"{path}: weight {weight['name']} has the shape {quoted(weight['shape'])}")
        sizes = [math.prod(w["shape"]) * np.dtype(DTYPES[w["dtype"]]).itemsize for w in group["weights"]]
        data, at = _shards(path, group["paths"], sum(sizes)), 0
        if len(data) < sum(sizes):
            short, shards_named = sum(sizes) - len(data), some(group["paths"], 3)
            raise BadWeightsError(
                f"{path}: its weight shards end {short} bytes short ({shards_named}); fetch them again"
            )
        for weight, size in zip(group["weights"], sizes):
            dtype = np.dtype(DTYPES[weight["dtype"]])
            constants[weight["name"]] = np.frombuffer(data, dtype, size // dtype.itemsize, at).reshape(weight["shape"])
            at += size
    return constants


def _shards(path: Path, names: list[str], most: int) -> bytes:
    """The first `most` bytes of some shards, one behind the other."""
    found = []
    for name in names:
        found.append(read_beside(path, name, most))
        most -= len(found[-1])
    return b"".join(found)
