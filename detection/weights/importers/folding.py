"""The constant parts of a TensorFlow graph, worked out in numpy: weights behind an Identity, factors of batch norms,
anchors that a frozen graph computes anew each time. Only the few operations that such parts consist of; nothing else runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detection.errors import BadWeightsError

LARGEST = (
    1 << 26
)  # numbers in a file's constants, and in what is computed of them: a hostile graph may ask for any size


@dataclass(frozen=True)
class Operation:
    """A node of a TensorFlow graph. op: as TensorFlow names it. inputs: `node` or `node:k`. attributes: plain values;
    a constant has its array as `value`."""

    op: str
    name: str
    inputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Constants:
    """What of a graph depends on constants alone, and its values (each computed once, when it is asked for)."""

    def __init__(self, operations: Mapping[str, Operation], file: str) -> None:
        self._operations, self._file = operations, file
        self._values: dict[str, list[np.ndarray]] = {}
        self._constant: dict[str, bool] = {}
        self._numbers = 0  # in all that was computed

    def has(self, tensor: str) -> bool:
        """Whether a tensor depends on constants alone, and on operations known here."""
        return self._is_constant(_node(tensor))

    def value(self, tensor: str) -> np.ndarray:
        """Its value. Raises BadWeightsError, one line, where it is no constant, or larger than any weights are."""
        name, _, port = tensor.partition(":")
        if not self._is_constant(name):
            raise BadWeightsError(f"{self._file}: {name} should be a constant, and is computed from the image")
        stack = [name]
        while stack:
            last = self._operations[stack[-1]]
            missing = [_node(i) for i in last.inputs if _node(i) not in self._values]
            if missing:
                stack += missing
            else:
                stack.pop()
                if last.name not in self._values:
                    self._values[last.name] = self._compute(last)
        return self._values[name][int(port or 0)]

    def _is_constant(self, name: str) -> bool:
        """Walks the inputs depth first; a node that is met again before it is decided lies in a loop, which is none."""
        stack = [(name, False)]
        while stack:
            at, ready = stack.pop()
            if ready:
                self._constant[at] = all(self._constant[_node(i)] for i in self._operations[at].inputs)
            elif at not in self._constant:
                operation = self._operations.get(at)
                self._constant[at] = False
                if operation is not None and (operation.op == "Const" or operation.op in COMPUTED):
                    stack.append((at, True))
                    stack += [(_node(i), False) for i in operation.inputs]
        return self._constant[name]

    def _compute(self, operation: Operation) -> list[np.ndarray]:
        if operation.op == "Const":
            return [operation.attributes["value"]]
        inputs = []
        for tensor in operation.inputs:
            name, _, port = tensor.partition(":")
            inputs.append(self._values[name][int(port or 0)])
        with np.errstate(all="ignore"):
            found = COMPUTED[operation.op](operation.attributes, *inputs)
        arrays = found if isinstance(found, list) else [np.asarray(found)]
        new = [array for array in arrays if array.base is None and all(array is not one for one in inputs)]
        self._numbers += sum(array.size for array in new)
        if self._numbers > LARGEST:
            raise BadWeightsError(f"{self._file}: computes more than {LARGEST:,} constants, which no detector does")
        return arrays


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]


def _bounded(shape: Sequence[Any]) -> tuple[int, ...]:
    sizes = tuple(int(n) for n in shape)
    if min(sizes, default=0) < 0 or math.prod(sizes) > LARGEST:
        raise ValueError(f"a constant of shape {sizes}")
    return sizes


def _elementwise(function: Callable) -> Callable:
    def apply(attributes: Mapping[str, Any], *inputs: np.ndarray) -> np.ndarray:
        _bounded(np.broadcast_shapes(*[x.shape for x in inputs]))
        return function(*inputs)

    return apply


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b).astype(a.dtype)


def _range(attributes: Mapping[str, Any], start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> np.ndarray:
    _bounded([max(0, math.ceil((float(limit) - float(start)) / float(delta)))])
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _tile(attributes: Mapping[str, Any], x: np.ndarray, multiples: np.ndarray) -> np.ndarray:
    _bounded(np.array(x.shape, np.int64) * multiples)
    return np.tile(x, multiples)


def _slice(attributes: Mapping[str, Any], x: np.ndarray, begin: np.ndarray, size: np.ndarray) -> np.ndarray:
    return x[tuple(slice(int(b), None if s < 0 else int(b + s)) for b, s in zip(begin, size))]


def _strided_slice(
    attributes: Mapping[str, Any], x: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray
) -> np.ndarray:
    def bit(mask: str, i: int) -> bool:
        return bool(int(attributes.get(mask, 0)) >> i & 1)

    index: list[Any] = []
    for i in range(len(begin)):
        if bit("ellipsis_mask", i):
            index.append(Ellipsis)
        elif bit("new_axis_mask", i):
            index.append(None)
        elif bit("shrink_axis_mask", i):
            index.append(int(begin[i]))
        else:
            first = None if bit("begin_mask", i) else int(begin[i])
            index.append(slice(first, None if bit("end_mask", i) else int(end[i]), int(strides[i])))
    return x[tuple(index)]


def _squeeze(attributes: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    axes = tuple(attributes.get("squeeze_dims") or attributes.get("axis") or ())
    return np.squeeze(x, axes or None)


def _cast(attributes: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    return x.astype(attributes["DstT"])


def _unpack(attributes: Mapping[str, Any], x: np.ndarray) -> list[np.ndarray]:
    return list(np.moveaxis(x, int(attributes.get("axis", 0)), 0))


def _reduced(function: Callable) -> Callable:
    def apply(attributes: Mapping[str, Any], x: np.ndarray, axes: np.ndarray) -> np.ndarray:
        return function(x, axis=tuple(np.atleast_1d(axes)), keepdims=bool(attributes.get("keep_dims", False)))

    return apply


def _as_quantised(attributes: Mapping[str, Any], x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """FakeQuantWithMinMaxVars (fake_quant_ops_functor.h): the values that 8 bits between low and high can hold."""
    least = 1 if attributes.get("narrow_range") else 0
    steps = 2 ** int(attributes.get("num_bits", 8)) - 1 - least
    scale = (np.float64(high) - np.float64(low)) / steps
    if scale == 0:
        return np.zeros_like(x)
    zero = np.clip(np.rint(least - low / scale), least, least + steps)
    nudged_low, nudged_high = (least - zero) * scale, (least + steps - zero) * scale
    held = np.floor((np.clip(x, nudged_low, nudged_high) - nudged_low) / scale + 0.5) * scale + nudged_low
    return held.astype(np.float32)


COMPUTED: dict[str, Callable[..., Any]] = {
    "Identity": lambda a, x: x,
    "ReadVariableOp": lambda a, x: x,
    "StopGradient": lambda a, x: x,
    "Add": _elementwise(np.add),
    "AddV2": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "RealDiv": _elementwise(_divide),
    "Minimum": _elementwise(np.minimum),
    "Maximum": _elementwise(np.maximum),
    "Sqrt": _elementwise(np.sqrt),
    "Rsqrt": _elementwise(lambda x: (1 / np.sqrt(x)).astype(x.dtype)),
    "Exp": _elementwise(np.exp),
    "Log": _elementwise(np.log),
    "Neg": _elementwise(np.negative),
    "Pow": _elementwise(np.power),
    "Cast": _cast,
    "Fill": lambda a, shape, x: np.full(_bounded(shape), x),
    "Range": _range,
    "Shape": lambda a, x: np.array(x.shape, np.int32),
    "Size": lambda a, x: np.array(x.size, np.int32),
    "Rank": lambda a, x: np.array(x.ndim, np.int32),
    "Reshape": lambda a, x, shape: x.reshape(tuple(shape)),
    "ExpandDims": lambda a, x, axis: np.expand_dims(x, int(axis)),
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": lambda a, x, order: x.transpose(tuple(order)),
    "Pack": lambda a, *x: np.stack(x, int(a.get("axis", 0))),
    "Unpack": _unpack,
    "ConcatV2": lambda a, *x: np.concatenate(x[:-1], int(x[-1])),
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "GatherV2": lambda a, x, at, axis: np.take(x, at, int(axis)),
    "Split": lambda a, axis, x: np.split(x, int(a["num_split"]), int(axis)),
    "Prod": _reduced(np.prod),
    "Sum": _reduced(np.sum),
    "FakeQuantWithMinMaxVars": _as_quantised,
}
