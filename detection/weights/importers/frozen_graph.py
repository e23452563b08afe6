"""TensorFlow's frozen graphs (`frozen_inference_graph.pb` of the detection zoo, and what export_inference_graph.py writes)
-> a network of ours. No TensorFlow is needed; the graph is read as data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.weights.card import Card
from detection.weights.importers.assemble import assemble
from detection.weights.importers.folding import LARGEST, Operation
from detection.weights.importers.graph import DetectorGraph
from detection.weights.importers.labels import labels_of
from detection.weights.importers.schema import read_message
from detection.weights.importers.tensorflow import read_detector

# types.proto: number -> numpy's type, and the field of a tensor that holds values one by one
DTYPES: dict[int, tuple[Any, str]] = {
    1: (np.float32, "float_val"),
    2: (np.float64, "double_val"),
    3: (np.int32, "int_val"),
    4: (np.uint8, "int_val"),
    9: (np.int64, "int64_val"),
    10: (np.bool_, "bool_val"),
    19: (np.float16, "half_val"),
}


def import_frozen_graph(path: Path) -> tuple[SSD, Card]:
    """A frozen graph of an SSD MobileNet, or a folder with frozen_inference_graph.pb -> (network, card)."""
    return assemble(read_frozen_graph(path))


def read_frozen_graph(path: str | Path) -> DetectorGraph:
    """Raises BadWeightsError, one line, for a file that is damaged, or no SSD."""
    path = Path(path)
    path = path / "frozen_inference_graph.pb" if path.is_dir() else path
    graph = read_message(path, "GraphDef", "TensorFlow graph")
    if not graph.node:
        raise BadWeightsError(f"{path}: no TensorFlow graph (it has no nodes)")
    found = read_detector(operations(graph.node, str(path)), str(path))
    found.details["labels"] = labels_of(path)
    return found


def operations(nodes: Iterable[Any], file: str) -> Iterator[Operation]:
    """The nodes of a GraphDef, without their control inputs."""
    for node in nodes:
        attributes = {attr.key: plain(attr.value, file) for attr in node.attr}
        inputs = tuple(name for name in node.input if not name.startswith("^"))
        yield Operation(node.op, node.name, inputs, attributes)


def plain(value: Any, file: str) -> Any:
    """An AttrValue as a number, text, list of integers, numpy type or array; None for what nobody here needs."""
    for name, _ in value.ListFields():
        if name.name == "list":
            return list(value.list.i)
        if name.name == "tensor":
            return array(value.tensor, file)
        if name.name == "type":
            return DTYPES.get(value.type, (None, ""))[0]
        return getattr(value, name.name)
    return 0  # proto3 leaves zeros out


def array(tensor: Any, file: str) -> np.ndarray | None:
    """A TensorProto's values; None for types that no weights have. One value may stand for all of a tensor."""
    if tensor.dtype not in DTYPES:
        return None
    dtype, field = DTYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count > LARGEST:
        raise BadWeightsError(f"{file}: holds a constant of shape {list(shape)}, which no detector has")
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * np.dtype(dtype).itemsize:
            raise BadWeightsError(
                f"{file}: a constant of shape {list(shape)} holds {len(tensor.tensor_content)} bytes; fetch it again"
            )
        return np.frombuffer(tensor.tensor_content, np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(shape)
    values = np.array(getattr(tensor, field), np.uint16 if dtype is np.float16 else dtype)
    if dtype is np.float16:
        values = values.view(np.float16)
    if len(values) > count or count and not len(values):
        values = np.zeros(1, dtype) if not len(values) else values[:count]
    # TensorFlow leaves out the end of a row of equal values
    return np.concatenate([values, np.repeat(values[-1:], count - len(values))]).reshape(shape)
