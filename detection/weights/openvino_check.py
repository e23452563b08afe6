"""An OpenVINO description (.xml) that is anybody's, looked at before OpenVINO reads it: no entities, operators of a list, no
circle, and all numbers within the .bin beside it.

OpenVINO works out every shape once while it reads, one operator after the other. Without loops, with few operators, and with no
operator that makes as much as a number says, that comes to an end; what the shapes then ask for is looked at before anything is
compiled (`runtimes.openvino_model.check_model`).
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any
from xml.parsers import expat

from detection.errors import BadWeightsError, quoted
from detection.weights.card_files import LARGEST_XML
from detection.weights.guard import read_whole
from detection.weights.onnx_check import MOST_HELD
from detection.weights.onnx_reader import MOST_NODES, Refused

DEEPEST = 16  # elements within one another
MOST_SIDES = 8
BITS = {
    "f64": 64, "f32": 32, "f16": 16, "bf16": 16, "f8e4m3": 8, "f8e5m2": 8, "i64": 64, "i32": 32, "i16": 16, "i8": 8, "i4": 4,
    "u64": 64, "u32": 32, "u16": 16, "u8": 8, "u4": 4, "u1": 1, "boolean": 8,
}  # fmt: skip
OPERATORS = frozenset(
    "Abs Add AvgPool BatchNormInference Broadcast Ceiling Clamp Concat Const Convert ConvertLike Convolution "
    "Divide Elu Equal Exp FakeConvert FakeQuantize Floor FloorMod Gather GatherElements GatherND Gelu Greater "
    "GreaterEqual GroupConvolution HSigmoid HSwish HardSigmoid Identity Interpolate Less LessEqual Log "
    "LogSoftmax LogicalAnd LogicalNot LogicalOr MVN MatMul MaxPool Maximum Minimum Mish Mod Multiply Negative "
    "NonMaxSuppression NormalizeL2 NotEqual PReLU Pad Parameter Power ReLU ReduceL2 ReduceMax ReduceMean "
    "ReduceMin ReduceProd ReduceSum Reshape Result Round ScatterNDUpdate ScatterUpdate Select ShapeOf Sigmoid "
    "Slice SoftPlus Softmax Split Sqrt SquaredDifference Squeeze StridedSlice Subtract Swish Tanh TopK "
    "Transpose Unsqueeze VariadicSplit".split()
)


def check_openvino(path: Path) -> None:
    """Raises BadWeightsError, one line, for a description that OpenVINO should not be given, or whose .bin is not whole."""
    data = read_whole(path, LARGEST_XML, "an OpenVINO description")
    numbers = path.with_suffix(".bin")
    try:
        size = os.stat(numbers).st_size
    except OSError as error:
        raise BadWeightsError(f"{numbers}: cannot be read ({error.strerror or error})") from None
    found = _Description(size)
    try:
        found.parser.Parse(data, True)
        _check_order(found.layers, found.edges)
    except Refused as reason:
        raise BadWeightsError(f"{path}: was not opened: {reason}; export it again") from None
    except (expat.ExpatError, ValueError, UnicodeError) as error:
        raise BadWeightsError(f"{path}: not a whole OpenVINO file ({error}); export it again") from None


class _Description:
    """layers: ids in the order of the file. edges: (from, to). Handlers of expat, so that no tree is built."""

    def __init__(self, size: int) -> None:
        self.size, self.layers, self.edges = size, dict[str, str](), list[tuple[str, str]]()
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self.parser.EntityDeclHandler = self._doctype
        self._open: list[str] = []
        self._kind, self._sides = "", list[str]()
        self._dim = ""

    def _doctype(self, *_: Any) -> None:
        raise Refused("it declares entities or a document type")

    def _start(self, name: str, said: dict[str, str]) -> None:
        self._open.append(name)
        if len(self._open) > DEEPEST:
            raise Refused(f"more than {DEEPEST} elements within one another")
        inside = self._open[1] if len(self._open) > 1 else ""
        if name in ("body", "back_edges", "port_map", "then_body", "else_body"):
            raise Refused("it holds a graph within a graph")
        if inside == "layers" and name == "layer":
            self._layer(said)
        elif inside == "layers" and name == "data" and self._kind == "Const":
            self._constant(said)
        elif inside == "layers" and name == "port":
            self._sides = []
        elif name == "dim":
            self._dim = ""
        elif inside == "edges" and name == "edge":
            self.edges.append((said.get("from-layer", ""), said.get("to-layer", "")))
            if len(self.edges) > 16 * MOST_NODES:
                raise Refused(f"more than {16 * MOST_NODES:,} edges")

    def _text(self, text: str) -> None:
        if self._open and self._open[-1] == "dim":
            self._dim += text
            if len(self._dim) > 32:
                raise Refused("a side that is none")

    def _end(self, name: str) -> None:
        self._open.pop()
        if name == "dim":
            self._sides.append(self._dim)
        elif name == "port":
            _size_of(self._sides)

    def _layer(self, said: dict[str, str]) -> None:
        number, self._kind = said.get("id", ""), said.get("type", "")
        if self._kind not in OPERATORS or not re.fullmatch(r"opset\d{1,2}", said.get("version", "")):
            raise Refused(f"the operator {quoted(self._kind)} is none that detectors of mobilessd have")
        if not re.fullmatch(r"\d{1,9}", number) or number in self.layers:
            raise Refused(f"a layer of the number {quoted(number)}")
        self.layers[number] = self._kind
        if len(self.layers) > MOST_NODES:
            raise Refused(f"more than {MOST_NODES:,} operators")

    def _constant(self, said: dict[str, str]) -> None:
        kind, shape = said.get("element_type", ""), said.get("shape", "")
        if kind not in BITS:
            raise Refused(f"numbers of the type {quoted(kind)}")
        wanted = -(-_size_of(shape.split(",") if shape.strip() else []) * BITS[kind] // 8)
        offset, size = int(said.get("offset", "-1")), int(said.get("size", "-1"))
        if offset < 0 or size < wanted or offset + size > self.size:
            raise Refused(f"numbers of the shape {quoted(shape)} at {offset} of {self.size:,} bytes")


def _size_of(sides: list[str]) -> int:
    """How many numbers that are at least; sides that are free count as one. Refused for more than any detector has."""
    found = []
    for side in sides:
        ends = side.strip().split("..")
        found.append(1 if ends[0] in ("?", "-1", "") else int(ends[0]))
    if len(found) > MOST_SIDES or min(found, default=0) < 0 or math.prod(found) > MOST_HELD:
        raise Refused(f"more than {MOST_HELD:,} numbers at a time")
    return math.prod(found)


def _check_order(layers: dict[str, str], edges: list[tuple[str, str]]) -> None:
    """Each edge leads from a layer to another, and no way leads back to where it began."""
    waiting, readers = dict.fromkeys(layers, 0), dict[str, list[str]]()
    for start, end in edges:
        if start not in layers or end not in layers:
            raise Refused("an edge leads to no layer")
        waiting[end] += 1
        readers.setdefault(start, []).append(end)
    ready = [layer for layer, number in waiting.items() if not number]
    for layer in ready:
        for end in readers.get(layer, ()):
            waiting[end] -= 1
            if not waiting[end]:
                ready.append(end)
    if len(ready) < len(layers):
        raise Refused("its operators feed one another in a circle")
