"""The convolutions of a TensorFlow graph, each with all that stands behind it: batch norms whole, unfused or folded, biases,
factors. Nothing goes by names."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from detection.errors import BadWeightsError
from detection.weights.importers.folding import LARGEST, Constants, Operation
from detection.weights.importers.graph import Convolution

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
SUMS = ("Add", "AddV2", "AddN", "BiasAdd")
Norm = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]  # gamma, beta, mean, variance, epsilon


@dataclass
class _Affine:
    """What stands behind a convolution: y = scale * x + shift a channel; norm: where all of it is one whole batch norm."""

    scale: np.ndarray | None = None
    shift: np.ndarray | None = None
    norm: Norm | None = None

    @property
    def empty(self) -> bool:
        return self.scale is None and self.shift is None and self.norm is None

    def times(self, factor: np.ndarray) -> None:
        self._unfold()
        self.scale = factor if self.scale is None else self.scale * factor
        self.shift = None if self.shift is None else self.shift * factor

    def plus(self, term: np.ndarray) -> None:
        self._unfold()
        self.shift = term if self.shift is None else self.shift + term

    def normalised(self, norm: Norm) -> None:
        if self.empty:
            self.norm = norm
            return
        gamma, beta, mean, variance, eps = norm
        factor = (gamma / np.sqrt(variance.astype(np.float64) + eps)).astype(np.float32)
        self.times(factor)
        self.plus(beta - mean * factor)

    def _unfold(self) -> None:
        if self.norm is not None:
            norm, self.norm = self.norm, None
            gamma, beta, mean, variance, eps = norm
            self.scale = (gamma / np.sqrt(variance.astype(np.float64) + eps)).astype(np.float32)
            self.shift = beta - mean * self.scale


class Convolutions:
    """Of the graph of these operations. known: the names of all operations that went into a convolution so far."""

    def __init__(self, operations: dict[str, Operation], constants: Constants, file: str) -> None:
        self.operations, self.constants, self.file = operations, constants, file
        self.readers: dict[str, list[Operation]] = defaultdict(list)
        self.known: set[str] = set()
        self.numbers = 0  # of all kernels: a hostile graph may name one a thousand times
        for operation in operations.values():
            for tensor in operation.inputs:
                self.readers[tensor.partition(":")[0]].append(operation)

    def of(self, operation: Operation) -> Convolution:
        """The convolution and all that follows it up to its activation, in PyTorch's layout. Raises BadWeightsError, one
        line, for one that no network here has."""
        weight = self.constants.value(operation.inputs[1])
        self.numbers += weight.size
        if self.numbers > LARGEST:
            raise BadWeightsError(f"{self.file}: more than {LARGEST:,} weights, which no detector has")
        depthwise = operation.op == "DepthwiseConv2dNative"
        if weight.ndim != 4 or depthwise and weight.shape[3] != 1:
            raise BadWeightsError(f"{self.file}: {operation.name} has weights of shape {list(weight.shape)}")
        # HWIO -> OIHW; depthwise HWC1 -> C1HW
        weight = weight.transpose(2, 3, 0, 1) if depthwise else weight.transpose(3, 2, 0, 1)
        if any(int(d) != 1 for d in operation.attributes.get("dilations", ())):
            raise BadWeightsError(f"{self.file}: {operation.name} is dilated, which no network here is")
        behind = self._behind(operation, len(weight))
        if behind.scale is not None:
            weight = weight * behind.scale.reshape(-1, 1, 1, 1)
        strides = operation.attributes.get("strides") or [1, 1, 1, 1]
        return Convolution(
            operation.name,
            np.ascontiguousarray(weight, np.float32),
            np.zeros(len(weight), np.float32) if behind.shift is None else behind.shift.astype(np.float32),
            depthwise,
            int(strides[2]),
            behind.norm,
        )

    def _behind(self, operation: Operation, channels: int) -> _Affine:
        found, at, summed, seen = _Affine(), operation, False, {operation.name}
        while len(readers := self.readers[at.name]) == 1:
            reader = readers[0]
            if reader.name in seen:  # in somebody's file a node may be its own input
                break
            seen.add(reader.name)
            fixed = [t for t in reader.inputs if self.constants.has(t)]
            values = [self.constants.value(t) for t in fixed] if reader.op in (*SUMS, "Mul") else []
            if any(value.size not in (1, channels) for value in values):
                break
            vectors = [np.broadcast_to(value.ravel(), (channels,)) for value in values]
            if reader.op in SUMS:
                # A residual connection may come before the bias, which the convolution can still be given.
                summed = summed or len(fixed) < len(reader.inputs) - 1
                if summed and self._owner(reader) not in (at.name, None):
                    break
                for vector in vectors:
                    found.plus(vector)
            elif summed:
                break
            elif reader.op in NORMS:
                found.normalised(self._fused_norm(reader, channels))
            elif reader.op != "Mul" or len(vectors) != 1:
                break
            elif found.empty and (norm := self._unfused_norm(reader, fixed[0], channels)):
                self.known.add(reader.name)
                found.norm, reader = norm
            else:
                found.times(vectors[0])
            at = reader
            self.known.add(at.name)
        return found

    def _owner(self, total: Operation) -> str | None:
        """Which of the tensors in a sum takes the constants in and behind it: the first that goes nowhere else, and comes
        from a convolution."""
        names = [t.partition(":")[0] for t in total.inputs if not self.constants.has(t)]
        ends = (*CONVOLUTIONS, *NORMS, *SUMS, "Mul")
        return next((n for n in names if len(self.readers[n]) == 1 and self.operations[n].op in ends), None)

    def _fused_norm(self, operation: Operation, channels: int) -> Norm:
        gamma, beta, mean, variance = (self.constants.value(t) for t in operation.inputs[1:5])
        if operation.attributes.get("is_training") or any(v.size != channels for v in (gamma, beta, mean, variance)):
            raise BadWeightsError(
                f"{self.file}: {operation.name} is of a graph for training; export it for inference "
                "(export_inference_graph.py)"
            )
        return gamma, beta, mean, variance, round(float(operation.attributes.get("epsilon", 1e-4)), 7)

    def _unfused_norm(self, operation: Operation, factor: str, channels: int) -> tuple[Norm, Operation] | None:
        """x * (rsqrt(variance + eps) * gamma) + (beta - mean * (the same)), as tf.nn.batch_normalization writes it: the
        whole norm, and its last operation."""
        last = self.readers[operation.name]
        product, root = self._made_by(factor, "Mul"), None
        if product is not None:
            root = self._made_by(product.inputs[0], "Rsqrt")
        if product is None or root is None or len(last) != 1 or last[0].op not in SUMS:
            return None
        total = self._made_by(root.inputs[0], *SUMS)
        offset = next((self._made_by(t, "Sub") for t in last[0].inputs if self.constants.has(t)), None)
        scaled_mean = self._made_by(offset.inputs[1], "Mul") if offset is not None else None
        if total is None or offset is None or scaled_mean is None:
            return None
        value = self.constants.value
        parts = value(product.inputs[1]), value(offset.inputs[0]), value(scaled_mean.inputs[0]), value(total.inputs[0])
        eps = value(total.inputs[1])
        if eps.size != 1 or any(part.size != channels for part in parts):
            return None
        return (*parts, round(float(eps), 7)), last[0]

    def _made_by(self, tensor: str, *ops: str) -> Operation | None:
        operation = self.operations.get(tensor.partition(":")[0])
        return operation if operation is not None and operation.op in ops else None
