"""A TensorFlow Lite file as the object of its schema, to which operators are appended. Needs ai-edge-litert, which holds the
schema; no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detection.weights.guard import guarded


class Graph:
    """A file's one graph. Tensors are named by their numbers.

    Raises BadWeightsError, one line, for a file that is damaged or holds several graphs."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.tools import flatbuffer_utils

        self.schema = schema
        with guarded(path):
            # Buffers may lie outside of the flatbuffer: this reader copies them into it.
            self.model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
            (self.graph,) = self.model.subgraphs

    @property
    def outputs(self) -> list[int]:
        return list(self.graph.outputs)

    def name(self, tensor: int) -> str:
        return _text(self.graph.tensors[tensor].name)

    def convolutions(self) -> list[str]:
        """The names of what convolutions give, in the order they run."""
        ops = self.schema.BuiltinOperator
        found = [one for one in self.graph.operators if self._kind(one) in (ops.CONV_2D, ops.DEPTHWISE_CONV_2D)]
        return [self.name(one.outputs[0]) for one in found]

    def signature(self) -> tuple[str, str]:
        """The name of the graph's signature, and of its one input there."""
        (found,) = self.model.signatureDefs
        (given,) = found.inputs
        return _text(found.signatureKey), _text(given.name)

    def _kind(self, operator: Any) -> int:
        return self.model.operatorCodes[operator.opcodeIndex].builtinCode

    def shape(self, tensor: int) -> list[int]:
        return list(self.graph.tensors[tensor].shape)

    def constant(self, value: Any, kind: type = np.float32) -> int:
        """A new tensor with this value."""
        table: np.ndarray = np.ascontiguousarray(np.asarray(value, kind))
        return self._tensor(f"constant/{len(self.graph.tensors)}", table.shape, kind, self._buffer(table.tobytes()))

    def tensor(self, name: str, shape: Sequence[int]) -> int:
        """A new float32 tensor."""
        return self._tensor(name, shape, np.float32, 0)

    def add(self, op: str, inputs: Sequence[int], shape: Sequence[int], **options: Any) -> int:
        """Appends an operator by its name in the schema, such as "LOGISTIC"; its one float output [shape]. options: the
        fields of its options' table, where it has one."""
        code = getattr(self.schema.BuiltinOperator, op)
        made = self._operator(code, inputs, [self.tensor(f"appended/{len(self.graph.tensors)}", shape)])
        title = f"{op.title()}Options"
        if hasattr(self.schema, f"{title}T"):
            table = getattr(self.schema, f"{title}T")()
            for name, value in options.items():
                setattr(table, name, value)
            made.builtinOptionsType, made.builtinOptions = getattr(self.schema.BuiltinOptions, title), table
        return made.outputs[0]

    def add_custom(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: dict[str, Any]) -> None:
        """Appends an operator that is no builtin one."""
        from flatbuffers import flexbuffers

        made = self._operator(self.schema.BuiltinOperator.CUSTOM, inputs, outputs, name)
        made.customOptions = np.frombuffer(flexbuffers.Dumps(options), np.uint8)

    def enter_bytes(self) -> None:
        """Has the image's bytes become int8 without floats between, where a graph begins with CAST and QUANTIZE: Coral's compiler
        maps nothing that stands behind an operator on floats."""
        ops, (given,) = self.schema.BuiltinOperator, self.graph.inputs
        casts = [one for one in self.graph.operators if self._kind(one) == ops.CAST and list(one.inputs) == [given]]
        if len(casts) != 1:
            return
        takers = [one for one in self.graph.operators if casts[0].outputs[0] in one.inputs]
        if len(takers) == 1 and self._kind(takers[0]) == ops.QUANTIZE:
            exact = self.schema.QuantizationParametersT()
            exact.scale, exact.zeroPoint = [1.0], [0]
            self.graph.tensors[given].quantization = exact
            takers[0].inputs = [given]
            self.graph.operators.remove(casts[0])

    def enter_larger(self, size: tuple[int, int]) -> None:
        """Has the graph take images of `size` (height, width), and make them as small as it took them before: bilinear, with
        half-pixel centres, as `detection.images.preprocess.stretch` does."""
        (before,) = self.graph.inputs
        given = self._tensor("image", (1, *size, 3), np.uint8, 0)
        self.graph.tensors[given].quantization = self.graph.tensors[before].quantization
        sides = self.constant(self.shape(before)[1:3], np.int32)
        made = self._operator(self.schema.BuiltinOperator.RESIZE_BILINEAR, [given, sides], [before])
        self.model.operatorCodes[made.opcodeIndex].version = 3  # the first that knows half-pixel centres
        made.builtinOptionsType = self.schema.BuiltinOptions.ResizeBilinearOptions
        made.builtinOptions = self.schema.ResizeBilinearOptionsT(halfPixelCenters=True)
        self.graph.operators.insert(0, self.graph.operators.pop())
        self.graph.inputs = [given]

    def finish(self, path: Path, outputs: Sequence[int], metadata: bytes) -> None:
        """Writes the file with these outputs and TFLite Model Metadata."""
        self.graph.outputs = list(outputs)
        self.model.signatureDefs = []  # they name the former outputs
        about = self.schema.MetadataT()
        about.name, about.buffer = "TFLITE_METADATA", self._buffer(metadata)
        self.model.metadata = [*(self.model.metadata or []), about]
        self.write(path)

    def write(self, path: Path) -> None:
        """Writes the file, without what lay in a zip at the end of the one that was read."""
        from ai_edge_litert.tools import flatbuffer_utils

        path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))

    def _operator(self, code: int, inputs: Sequence[int], outputs: Sequence[int], name: str | None = None) -> Any:
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self._code(code, name), list(inputs), list(outputs)
        self.graph.operators.append(made)
        return made

    def _code(self, code: int, name: str | None) -> int:
        made = self.schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode = code, min(code, 127)
        made.customCode, made.version = name, 1
        self.model.operatorCodes.append(made)
        return len(self.model.operatorCodes) - 1

    def _tensor(self, name: str, shape: Sequence[int], kind: type, buffer: int) -> int:
        made = self.schema.TensorT()
        made.name, made.shape, made.buffer = name, [int(side) for side in shape], buffer
        kinds: dict[type, Any] = {np.int32: self.schema.TensorType.INT32, np.uint8: self.schema.TensorType.UINT8}
        made.type = kinds.get(kind, self.schema.TensorType.FLOAT32)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def _buffer(self, data: bytes) -> int:
        made = self.schema.BufferT()
        made.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1


def _text(name: bytes | str) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else name
