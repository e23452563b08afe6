"""Reads the graph of an ONNX file out of its bytes: operators, shapes, and the numbers that are few. Neither onnx nor a runtime
is needed, and nothing is taken at its word: what is too much, or of a kind that no detector has, is refused on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detection.errors import quoted
from detection.weights.card_files import protobuf_fields, protobuf_varint

OPSETS = range(7, 31)
MOST_NODES = 20_000
DTYPES: dict[int, Any] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64, 16: np.uint16,
}  # fmt: skip
Shape = tuple[int, ...]


class Refused(Exception):
    """Why a file is not given to a runtime."""


@dataclass
class Value:
    """A tensor: its shape, each side at most; its numbers where they are few and constant."""

    shape: Shape
    numbers: np.ndarray | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass
class Node:
    op: str
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    ints: dict[str, list[int]] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    value: Value | None = None

    def one(self, name: str, usual: int) -> int:
        return self.ints.get(name, [usual])[0]


class Graph:
    """nodes: in the order of the file. values: by name, of which the shape is known; at first the constants. inputs: (name,
    sides, type) of each. outputs: their names."""

    def __init__(self, data: Any, start: int, end: int) -> None:
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {"": Value(())}  # what is left out
        self.inputs: list[tuple[str, list[int], int]] = []
        self.outputs: list[str] = []
        for number, first, last in protobuf_fields(data, start, end):
            if number == 1:
                self.nodes.append(_node(data, first, last))
            elif number == 5:
                name, value = _constant(data, first, last)
                self.define(name, value)
            elif number == 11:
                self.inputs.append(_declared(data, first, last))
            elif number == 12:
                self.outputs.append(_declared(data, first, last)[0])
            elif number == 15:
                raise Refused("it holds sparse numbers")
            if len(self.nodes) > MOST_NODES:
                raise Refused(f"more than {MOST_NODES:,} operators")

    def define(self, name: str, value: Value) -> None:
        if name in self.values:
            raise Refused(f"{quoted(name)} is made twice")
        self.values[name] = value


def read_graph(data: Any) -> Graph:
    """The graph of a model, whose bytes are `data`. Raises Refused, or whatever damaged bytes raise."""
    graphs = []
    for number, start, end in protobuf_fields(data, 0, len(data)):
        if number == 7:
            graphs.append((start, end))
        elif number == 8:
            opset = {k: (a, b) for k, a, b in protobuf_fields(data, start, end)}
            version = _int(data, *opset.get(2, (0, 0)))
            if version not in (OPSETS if opset.get(1, (0, 0))[0] == opset.get(1, (0, 0))[1] else range(1, 100)):
                raise Refused(f"operators of version {version}, where {OPSETS[0]} to {OPSETS[-1]} are known")
        elif number in (20, 25):
            raise Refused("it holds functions or a training of its own")
    if len(graphs) != 1:
        raise Refused(f"it holds {len(graphs)} graphs")
    return Graph(data, *graphs[0])


def _int(data: Any, start: int, end: int) -> int:
    if end <= start:
        return 0
    value = protobuf_varint(data, start)[0]
    return value - (1 << 64) if value >= 1 << 63 else value


def _ints(data: Any, start: int, end: int) -> Iterator[int]:
    """Packed ones, or one alone."""
    while start < end:
        value, start = protobuf_varint(data, start)
        yield value - (1 << 64) if value >= 1 << 63 else value


def _text(data: Any, start: int, end: int) -> str:
    try:
        return bytes(data[start:end]).decode()
    except UnicodeDecodeError:
        raise Refused("a name in it is no text") from None


def _node(data: Any, start: int, end: int) -> Node:
    node = Node("")
    for number, first, last in protobuf_fields(data, start, end):
        if number == 1:
            node.inputs.append(_text(data, first, last))
        elif number == 2:
            node.outputs.append(_text(data, first, last))
        elif number == 4:
            node.op = _text(data, first, last)
        elif number == 5:
            _attribute(node, data, first, last)
        elif number == 7 and _text(data, first, last) not in ("", "ai.onnx"):
            raise Refused(f"an operator of {quoted(_text(data, first, last))}")
        elif number in (3, 8):
            _text(data, first, last)
    return node


def _attribute(node: Node, data: Any, start: int, end: int) -> None:
    name, text = "", None
    ints: list[int] = []
    for number, first, last in protobuf_fields(data, start, end):
        if number == 1:
            name = _text(data, first, last)
        elif number in (3, 8):
            ints += _ints(data, first, last)
        elif number == 4:
            text = bytes(data[first:last])
        elif number in (6, 10, 11, 21, 22):
            raise Refused(f"{node.op or 'an operator'} holds a graph of its own, or sparse numbers")
        elif number == 5:
            node.value = _constant(data, first, last)[1]
    if name in node.ints or name in node.texts or len(ints) > 64:
        raise Refused(f"{quoted(name)} is said twice")
    if ints:
        node.ints[name] = ints
    if text is not None:
        node.texts[name] = text


def _constant(data: Any, start: int, end: int) -> tuple[str, Value]:
    """Of a TensorProto its name and shape; its numbers where they are few."""
    name, kind, raw = "", 0, None
    dims: list[int] = []
    typed: dict[int, bytes] = {}
    for number, first, last in protobuf_fields(data, start, end):
        if number == 1:
            dims += _ints(data, first, last)
        elif number == 2:
            kind = _int(data, first, last)
        elif number == 8:
            name = _text(data, first, last)
        elif number == 9:
            raw = (first, last)
        elif number in (4, 5, 7, 10, 11):
            typed[number] = typed.get(number, b"") + bytes(data[first:last])
        elif number == 13 or number == 14 and _int(data, first, last):
            raise Refused("its numbers lie in another file, which only the bundled one may")
        elif number == 6:
            raise Refused("it holds texts among its numbers")
    count = math.prod(dims)
    if kind not in DTYPES or min(dims, default=0) < 0 or len(dims) > 6:
        raise Refused(f"{quoted(name)} is of the shape {quoted(dims)} or of a type that no weights are")
    dtype = np.dtype(DTYPES[kind])
    if raw is not None:
        if raw[1] - raw[0] != count * dtype.itemsize:
            raise Refused(f"{quoted(name)} of shape {quoted(dims)} holds {raw[1] - raw[0]} bytes")
        numbers = np.frombuffer(bytes(data[raw[0] : raw[1]]), dtype) if count <= 64 else None
        return name, Value(tuple(dims), None if numbers is None else numbers.reshape(dims))
    if count > sum(map(len, typed.values())):
        raise Refused(f"{quoted(name)} of shape {quoted(dims)} holds {sum(map(len, typed.values()))} bytes")
    numbers = None
    if count <= 64 and len(typed) == 1:
        ((number, values),) = typed.items()
        found = (
            np.frombuffer(values, np.float32) if number == 4 else np.array([*_ints(values, 0, len(values))], np.int64)
        )
        numbers = found[:count].reshape(dims) if number != 10 else None
    return name, Value(tuple(dims), numbers)


def _declared(data: Any, start: int, end: int) -> tuple[str, list[int], int]:
    """Of an input or output its name, its sides (0 where they are free), and its type."""
    name, sides, kind = "", [], 0
    for number, first, last in protobuf_fields(data, start, end):
        if number == 1:
            name = _text(data, first, last)
        elif number == 2:
            for _, a, b in protobuf_fields(data, first, last):
                for part, c, d in protobuf_fields(data, a, b):
                    if part == 1:
                        kind = _int(data, c, d)
                    elif part == 2:
                        dims = [(e, f) for _, e, f in protobuf_fields(data, c, d)]
                        sides = [
                            next((_int(data, g, h) for k, g, h in protobuf_fields(data, *dim) if k == 1), 0)
                            for dim in dims
                        ]
    return name, sides, kind
