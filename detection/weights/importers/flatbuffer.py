"""Reads a `.tflite` file: its tensors as real numbers, its operations as `Node`s. numpy and the schema package only.

Nothing of LiteRT is needed or run. Quantised weights become real numbers by their own scale and zero point.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from detection.errors import BadWeightsError
from detection.weights.guard import read_whole
from detection.weights.importers.graph import Convolution, Node
from detection.weights.importers.labels import labels_of

LARGEST = 1 << 30  # bytes of a file
MOST_PARTS = 10_000  # tensors, or operators, of a model
OPS = {"CONV_2D": "conv", "DEPTHWISE_CONV_2D": "depthwise"}
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 9: np.int8}


@dataclass
class Tensor:
    """A tensor of the file: name, shape, data (None where it is computed), scale and zero point (None where float)."""

    name: str
    shape: tuple[int, ...]
    data: np.ndarray | None
    scale: np.ndarray | None
    zero: np.ndarray | None
    axis: int
    integer: bool
    signed: bool = False

    def real(self) -> np.ndarray:
        """The constant's values as float32."""
        assert self.data is not None
        if self.scale is None:
            return self.data.astype(np.float32)
        shape = [1] * self.data.ndim
        if self.scale.size > 1:
            shape[self.axis] = -1
        zero = np.zeros(1) if self.zero is None else self.zero
        return ((self.data.astype(np.float64) - zero.reshape(shape)) * self.scale.reshape(shape)).astype(np.float32)


@dataclass
class Model:
    """A whole file. post: the tensors' names that enter the detection post-processing op (None in a classifier)."""

    file: str
    tensors: list[Tensor]
    nodes: list[Node]
    inputs: list[int]
    outputs: list[int]
    post: list[int] | None
    labels: list[str] | None

    def name(self, index: int) -> str:
        return f"{index}:{self.tensors[index].name}"


def read_model(path: str | Path) -> Model:
    """Raises BadWeightsError, one line, for a file that is missing or no TensorFlow Lite model; whatever flatbuffers' offsets
    happen to hit for one that is cut short (the table's guard names it)."""
    path = Path(path)
    data = read_whole(path, LARGEST, "a TensorFlow Lite model")
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise BadWeightsError(f"{path}: not a TensorFlow Lite file (no TFL3 mark)")
    return _parse(data, path)


def _parse(data: bytes, path: Path) -> Model:
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    if max(graph.TensorsLength(), graph.OperatorsLength()) > MOST_PARTS:
        raise BadWeightsError(f"{path}: more than {MOST_PARTS:,} tensors or operators, which no detector has")
    tensors = [_tensor(model, graph.Tensors(i), path) for i in range(graph.TensorsLength())]
    held = sum(tensor.data.nbytes for tensor in tensors if tensor.data is not None)
    kernels = [tensors[k].data for k in _kernels(graph)]
    weights = sum(kernel.size for kernel in kernels if kernel is not None)
    if max(held, weights // 4) > len(data):  # heads may share theirs
        raise BadWeightsError(f"{path}: its tensors share {len(data):,} bytes for more than that; fetch it again")
    op_names = {v: k for k, v in vars(tflite.BuiltinOperator).items() if k.isupper()}
    result = Model(str(path), tensors, [], _ints(graph.InputsAsNumpy()), _ints(graph.OutputsAsNumpy()), None, None)
    for i in range(graph.OperatorsLength()):
        op = graph.Operators(i)
        code = model.OperatorCodes(op.OpcodeIndex())
        kind = op_names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs, outputs = _ints(op.InputsAsNumpy()), _ints(op.OutputsAsNumpy())
        if kind == "CUSTOM" and b"Detection_PostProcess" in (code.CustomCode() or b""):
            result.post = inputs
            continue
        convolution = _convolution(op, kind, inputs, outputs, tensors) if kind in OPS else None
        sources = [result.name(k) for k in inputs if k >= 0 and tensors[k].data is None]
        result.nodes.append(Node(kind.lower().replace("_", ""), result.name(outputs[0]), sources, convolution))
    result.labels = labels_of(path)
    return result


def _kernels(graph: Any) -> list[int]:
    """The second input of each operator: of a convolution its weights, which one of somebody's may have for all."""
    inputs = [_ints(graph.Operators(i).InputsAsNumpy()) for i in range(graph.OperatorsLength())]
    return [found[1] for found in inputs if len(found) > 1 and found[1] >= 0]


def _tensor(model: Any, tensor: Any, path: Path) -> Tensor:
    shape = tuple(_ints(tensor.ShapeAsNumpy())) if tensor.ShapeLength() else ()
    raw = model.Buffers(tensor.Buffer()).DataAsNumpy()
    dtype = DTYPES.get(tensor.Type())
    data = None
    if isinstance(raw, np.ndarray) and raw.size and dtype is not None:
        wanted = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if raw.nbytes < wanted:
            raise BadWeightsError(
                f"{path}: tensor {tensor.Name().decode()} holds {raw.nbytes} bytes of {wanted}; it was cut short"
            )
        data = np.frombuffer(raw[:wanted], dtype).reshape(shape)
    quantisation, scale, zero, axis = tensor.Quantization(), None, None, 0
    if quantisation is not None and quantisation.ScaleLength():
        scale = quantisation.ScaleAsNumpy().astype(np.float64)
        zero = quantisation.ZeroPointAsNumpy().astype(np.float64) if quantisation.ZeroPointLength() else None
        axis = quantisation.QuantizedDimension()
    integer = dtype is not None and np.issubdtype(dtype, np.integer)
    return Tensor(tensor.Name().decode(), shape, data, scale, zero, axis, integer, dtype == np.int8)


def _convolution(op: Any, kind: str, inputs: list[int], outputs: list[int], tensors: list[Tensor]) -> Convolution:
    options = tflite.Conv2DOptions() if kind == "CONV_2D" else tflite.DepthwiseConv2DOptions()
    options.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
    # Weights lie OHWI; depthwise ones 1HWC.
    weight = tensors[inputs[1]].real()
    weight = weight.transpose(3, 0, 1, 2) if kind == "DEPTHWISE_CONV_2D" else weight.transpose(0, 3, 1, 2)
    has_bias = len(inputs) > 2 and inputs[2] >= 0
    bias = tensors[inputs[2]].real() if has_bias else np.zeros(weight.shape[0], np.float32)
    return Convolution(
        tensors[outputs[0]].name,
        np.ascontiguousarray(weight),
        bias,
        kind == "DEPTHWISE_CONV_2D",
        int(options.StrideH()),
    )


def _ints(array: Any) -> list[int]:
    return [int(v) for v in array] if isinstance(array, np.ndarray) else []
