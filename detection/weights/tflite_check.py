"""A .tflite file that is anybody's, looked at before LiteRT is given it: one graph, operators of a list, each fed by what was
made before it, and no step that asks for more memory or work than detectors do. Read by the schema that LiteRT's package has.

As with ONNX (`onnx_check`) each tensor's shape is worked out here, as LiteRT will work it out: what a file says of its computed
tensors counts for nothing. All of them together are limited, as the interpreter may be told to keep them. Without loops, and with
so much work at most, running it comes to an end.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import BadWeightsError, quoted
from detection.weights.guard import read_whole
from detection.weights.onnx_check import MOST_HELD, MOST_WORK
from detection.weights.onnx_reader import Refused, Shape, Value
from detection.weights.tflite_shapes import OPERATORS

LARGEST = 1 << 30  # bytes of a file
MOST_PARTS = 10_000  # tensors, or operators, of a model
SIZES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1, 10: 8}  # bytes of a number, by type


def check_tflite(path: Path, input_size: tuple[int, int]) -> None:
    """Raises BadWeightsError, one line, for a file that LiteRT should not be given. input_size: (height, width) that its one
    input has."""
    from ai_edge_litert import schema_py_generated as schema

    data = read_whole(path, LARGEST, "a TensorFlow Lite model")
    try:
        _run(_Graph(schema.Model.GetRootAs(data, 0)), input_size)
    except Refused as reason:
        raise BadWeightsError(f"{path}: was not opened: {reason}; export or fetch it again") from None
    except Exception as error:  # offsets that lead out of the file, sides that are none
        raise BadWeightsError(
            f"{path}: not a whole TensorFlow Lite file ({type(error).__name__}); fetch it again"
        ) from None


class _Graph:
    """The one graph of a model. values: constants by index; inputs, outputs: indices; operators: (name, operator, inputs,
    outputs), in order."""

    def __init__(self, model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        if model.SubgraphsLength() != 1:
            raise Refused(f"it holds {model.SubgraphsLength()} graphs, where a detector is one")
        graph = model.Subgraphs(0)
        self.count = graph.TensorsLength()
        if max(self.count, graph.OperatorsLength(), model.OperatorCodesLength()) > MOST_PARTS:
            raise Refused(f"more than {MOST_PARTS:,} tensors or operators")
        self.declared: list[Shape] = []
        self.values: dict[int, Value] = {-1: Value(())}  # what is left out
        for index in range(self.count):
            self._tensor(model, graph.Tensors(index), index)
        self.inputs, self.outputs = self._indices(graph.InputsAsNumpy()), self._indices(graph.OutputsAsNumpy())
        names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}
        self.operators = []
        for index in range(graph.OperatorsLength()):
            one = graph.Operators(index)
            if one.OpcodeIndex() >= model.OperatorCodesLength():
                raise Refused("an operator is none of its own list")
            code = model.OperatorCodes(one.OpcodeIndex())
            name = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "")
            if name == "CUSTOM":
                name = (code.CustomCode() or b"").decode("utf-8", "replace")
            found = self._indices(one.InputsAsNumpy()), self._indices(one.OutputsAsNumpy())
            self.operators.append((name, one, *found))

    def _indices(self, array: Any) -> list[int]:
        found = [int(one) for one in array] if isinstance(array, np.ndarray) else []
        if not all(-1 <= one < self.count for one in found):
            raise Refused("it names a tensor that it does not have")
        return found

    def _tensor(self, model: Any, tensor: Any, index: int) -> None:
        shape = tuple(int(side) for side in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
        if min(shape, default=0) < 0 or len(shape) > 6 or math.prod(shape) > MOST_HELD:
            raise Refused(f"a tensor of the shape {quoted(list(shape))}")
        if tensor.Type() not in SIZES or tensor.IsVariable() or tensor.Sparsity() is not None:
            raise Refused("a tensor of a kind that no detector has")
        self._quantisation(tensor.Quantization(), shape)
        if tensor.Buffer() >= model.BuffersLength():
            raise Refused("a tensor without its numbers")
        buffer = model.Buffers(tensor.Buffer())
        if max(buffer.Offset(), buffer.Size()) > 1:
            raise Refused("its numbers lie outside its graph")
        self.declared.append(shape)
        raw = buffer.DataAsNumpy()
        if not isinstance(raw, np.ndarray) or not raw.size:
            return
        if raw.nbytes != math.prod(shape) * SIZES[tensor.Type()]:
            raise Refused(f"a tensor of the shape {quoted(list(shape))} holds {raw.nbytes} bytes")
        whole = {2: np.int32, 4: np.int64}.get(tensor.Type()) if math.prod(shape) <= 64 else None
        self.values[index] = Value(shape, np.frombuffer(raw.tobytes(), whole).reshape(shape) if whole else None)

    @staticmethod
    def _quantisation(found: Any, shape: Shape) -> None:
        if found is None:
            return
        axis, scales, zeros = found.QuantizedDimension(), found.ScaleLength(), found.ZeroPointLength()
        if scales > 1 and (not 0 <= axis < len(shape) or scales != shape[axis]) or zeros not in (0, 1, scales):
            raise Refused(f"{scales} scales and {zeros} zero points of the shape {quoted(list(shape))}")


def _run(graph: _Graph, input_size: tuple[int, int]) -> None:
    """Works out every shape in order, and what is held and done at most."""
    wanted = (1, *input_size, 3)
    if len(graph.inputs) != 1 or graph.inputs[0] < 0 or graph.declared[graph.inputs[0]] != wanted:
        raise Refused(f"its input is no image of {input_size[0]} x {input_size[1]} pixels")
    constants, values = set(graph.values), graph.values | {graph.inputs[0]: Value(wanted)}
    if graph.inputs[0] in constants:
        raise Refused("its input is a constant")
    held = work = 0
    for name, one, inputs, outputs in graph.operators:
        if name not in OPERATORS:
            raise Refused(f"the operator {quoted(name)} is none that detectors have")
        if not all(index in values for index in inputs) or not inputs or inputs[0] < 0:
            raise Refused(f"nothing before {name} makes what it reads")
        if any(index in values for index in outputs) or len(set(outputs)) < len(outputs):
            raise Refused(f"{name} makes what is there already")
        shapes = OPERATORS[name](one, [values[index] for index in inputs])
        shapes = shapes * len(outputs) if len(shapes) == 1 else shapes
        for index, shape in zip(outputs, shapes, strict=True):
            values[index] = Value(tuple(int(side) for side in shape))
            held += values[index].size
            if min(values[index].shape, default=0) < 0 or held > MOST_HELD:
                raise Refused(f"{name} asks for more than {MOST_HELD:,} numbers in all")
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            work += values[outputs[0]].size * math.prod(values[inputs[1]].shape[1:])
            if work > MOST_WORK:
                raise Refused(f"more than {MOST_WORK:,} multiply-adds for one image")
    if not graph.outputs or not all(index in values and index >= 0 for index in graph.outputs):
        raise Refused("nothing makes its outputs")
