"""The shapes of what LiteRT's operators give, out of what they are given: those that detectors have, of ours and of others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detection.errors import quoted
from detection.weights.onnx_reader import Refused, Shape, Value

MOST_FOUND = 100_000  # detections of the post-processing
Shapes = list[Shape]


def _options(one: Any, name: str) -> Any:
    """The options of an operator; Refused for those of another one."""
    from ai_edge_litert import schema_py_generated as schema

    table = one.BuiltinOptions()
    if table is None or one.BuiltinOptionsType() != getattr(schema.BuiltinOptions, name):
        raise Refused(f"an operator without its {name}")
    found = getattr(schema, name)()
    found.Init(table.Bytes, table.Pos)
    return found


def _same(one: Any, x: Sequence[Value]) -> Shapes:
    return [x[0].shape]


def _broadcast(one: Any, x: Sequence[Value]) -> Shapes:
    return [tuple(np.broadcast_shapes(*[value.shape for value in x]))]


def _window(options: Any, x: Value, kernel: tuple[int, int], gaps: tuple[int, int] = (1, 1)) -> list[int]:
    steps = options.StrideH(), options.StrideW()
    if len(x.shape) != 4 or not all(1 <= number <= 1024 for number in (*steps, *kernel, *gaps)):
        raise Refused("steps or sides that no layer has")
    if options.Padding() == 0:  # same
        return [-(-side // step) for side, step in zip(x.shape[1:3], steps)]
    return [
        max(0, (side - gap * (k - 1) - 1) // step + 1) for side, step, k, gap in zip(x.shape[1:3], steps, kernel, gaps)
    ]


def _conv(one: Any, x: Sequence[Value], depthwise: bool = False) -> Shapes:
    options = _options(one, "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions")
    weight = x[1].shape
    channels = weight[3] if depthwise else weight[0]
    fits = depthwise and channels % max(x[0].shape[3], 1) == 0 or not depthwise and x[0].shape[3] == weight[3]
    if len(weight) != 4 or not fits or (len(x) > 2 and x[2].shape not in ((), (channels,))):
        raise Refused(f"a convolution of {quoted(list(weight))} does not fit what it is given")
    gaps = (options.DilationHFactor(), options.DilationWFactor())
    return [(x[0].shape[0], *_window(options, x[0], (weight[1], weight[2]), gaps), channels)]


def _pool(one: Any, x: Sequence[Value]) -> Shapes:
    options = _options(one, "Pool2DOptions")
    kernel = options.FilterHeight(), options.FilterWidth()
    return [(x[0].shape[0], *_window(options, x[0], kernel), x[0].shape[3])]


def _dense(one: Any, x: Sequence[Value]) -> Shapes:
    rows, columns = x[1].shape
    if not columns or x[0].size % columns:
        raise Refused("a dense layer does not fit what it is given")
    kept = x[0].shape[:-1] if _options(one, "FullyConnectedOptions").KeepNumDims() else (x[0].size // columns,)
    return [(*kept, rows)]


def _concat(one: Any, x: Sequence[Value]) -> Shapes:
    axis = _axis(_options(one, "ConcatenationOptions").Axis(), x[0].shape)
    if any(y.shape[:axis] + y.shape[axis + 1 :] != x[0].shape[:axis] + x[0].shape[axis + 1 :] for y in x):
        raise Refused("what is laid side by side does not fit")
    return [(*x[0].shape[:axis], sum(y.shape[axis] for y in x), *x[0].shape[axis + 1 :])]


def _pack(one: Any, x: Sequence[Value]) -> Shapes:
    axis = _axis(_options(one, "PackOptions").Axis(), (*x[0].shape, 1))
    if any(y.shape != x[0].shape for y in x):
        raise Refused("what is laid side by side does not fit")
    return [(*x[0].shape[:axis], len(x), *x[0].shape[axis:])]


def _reshape(one: Any, x: Sequence[Value]) -> Shapes:
    if len(x) > 1:
        sides = _numbers(x[1])
    else:
        array = _options(one, "ReshapeOptions").NewShapeAsNumpy()
        sides = [int(side) for side in array] if isinstance(array, np.ndarray) else []
    if sides.count(-1) > 1 or min(sides, default=0) < -1:
        raise Refused("a new shape is none")
    known = math.prod(side for side in sides if side != -1)
    sides = [x[0].size // max(known, 1) if side == -1 else side for side in sides]
    if math.prod(sides) != x[0].size:
        raise Refused(f"what has {quoted(list(x[0].shape))} cannot have the shape {quoted(sides)}")
    return [tuple(sides)]


def _pad(one: Any, x: Sequence[Value]) -> Shapes:
    pads = np.array(_numbers(x[1])).reshape(-1, 2)
    if len(pads) != len(x[0].shape) or pads.min(initial=0) < 0 or pads.max(initial=0) > 16384:
        raise Refused("a border is none")
    return [tuple(side + int(pair.sum()) for side, pair in zip(x[0].shape, pads))]


def _resize(one: Any, x: Sequence[Value]) -> Shapes:
    height, width = _numbers(x[1])
    batch, _, _, channels = x[0].shape
    return [(batch, height, width, channels)]


def _reduce(one: Any, x: Sequence[Value]) -> Shapes:
    gone = {_axis(axis, x[0].shape) for axis in _numbers(x[1])}
    kept = _options(one, "ReducerOptions").KeepDims()
    return [tuple(1 if k in gone else side for k, side in enumerate(x[0].shape) if kept or k not in gone)]


def _transpose(one: Any, x: Sequence[Value]) -> Shapes:
    order = _numbers(x[1])
    if sorted(order) != list(range(len(x[0].shape))):
        raise Refused("an order of axes is none")
    return [tuple(x[0].shape[k] for k in order)]


def _strided(one: Any, x: Sequence[Value]) -> Shapes:
    options = _options(one, "StridedSliceOptions")
    if options.EllipsisMask() or options.NewAxisMask():
        raise Refused("a slice with new axes")
    sides = list(x[0].shape)
    begins, ends, steps = (_numbers(y) for y in x[1:4])
    gone = []
    for k, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        first = None if options.BeginMask() >> k & 1 else begin
        after = None if options.EndMask() >> k & 1 else end
        gone += [k] if options.ShrinkAxisMask() >> k & 1 else []
        sides[k] = len(range(*slice(first, after, step).indices(sides[k])))
    return [tuple(side for k, side in enumerate(sides) if k not in gone)]


def _slice(one: Any, x: Sequence[Value]) -> Shapes:
    begins, sizes = _numbers(x[1]), _numbers(x[2])
    sides = zip(x[0].shape, begins, sizes, strict=True)
    return [tuple(side - begin if size == -1 else size for side, begin, size in sides)]


def _squeeze(one: Any, x: Sequence[Value]) -> Shapes:
    array = _options(one, "SqueezeOptions").SqueezeDimsAsNumpy()
    axes = [int(axis) for axis in array] if isinstance(array, np.ndarray) else []
    gone = {_axis(axis, x[0].shape) for axis in axes} or {k for k, side in enumerate(x[0].shape) if side == 1}
    return [tuple(side for k, side in enumerate(x[0].shape) if k not in gone)]


def _expand(one: Any, x: Sequence[Value]) -> Shapes:
    (number,) = _numbers(x[1])
    axis = _axis(number, (*x[0].shape, 1))
    return [(*x[0].shape[:axis], 1, *x[0].shape[axis:])]


def _gather(one: Any, x: Sequence[Value]) -> Shapes:
    options = _options(one, "GatherOptions")
    axis = _axis(options.Axis(), x[0].shape)
    if options.BatchDims():
        raise Refused("GATHER takes other places of each image")
    return [x[0].shape[:axis] + x[1].shape + x[0].shape[axis + 1 :]]


def _gather_nd(one: Any, x: Sequence[Value]) -> Shapes:
    depth = x[1].shape[-1]
    if depth > len(x[0].shape):
        raise Refused("places are none")
    return [x[1].shape[:-1] + x[0].shape[depth:]]


def _split(one: Any, x: Sequence[Value]) -> Shapes:
    (number,), parts = _numbers(x[0]), _options(one, "SplitOptions").NumSplits()
    axis = _axis(number, x[1].shape)
    if not 0 < parts <= 64 or x[1].shape[axis] % parts:
        raise Refused("what is cut up does not fit")
    return [(*x[1].shape[:axis], x[1].shape[axis] // parts, *x[1].shape[axis + 1 :])]


def _broadcast_to(one: Any, x: Sequence[Value]) -> Shapes:
    return [tuple(np.broadcast_shapes(x[0].shape, tuple(_numbers(x[1]))))]


def _post(one: Any, x: Sequence[Value]) -> Shapes:
    """TensorFlow's own post-processing: boxes, classes, scores, and how many there are."""
    from flatbuffers import flexbuffers

    said = flexbuffers.Loads(one.CustomOptionsAsNumpy().tobytes())
    most = int(said["max_detections"]) * int(said.get("max_classes_per_detection", 1))
    kept = int(said.get("detections_per_class", 100))
    if not isinstance(said, dict) or not 0 < most <= MOST_FOUND or not 0 <= kept <= MOST_FOUND:
        raise Refused(f"{quoted(most)} detections of an image")
    if len(x) != 3 or len(x[1].shape) != 3 or x[0].shape[1] != x[2].shape[0] or x[1].shape[1] != x[2].shape[0]:
        raise Refused("boxes, scores and anchors do not fit")
    return [(1, most, 4), (1, most), (1, most), (1,)]


def _numbers(value: Value) -> list[int]:
    if value.numbers is None:
        raise Refused("a size depends on numbers that are computed")
    return [int(number) for number in value.numbers.ravel()]


def _axis(axis: int, shape: Sequence[int]) -> int:
    if not -len(shape) <= axis < len(shape):
        raise Refused("an axis is none")
    return axis % len(shape)


_ALIKE = (
    *(
        "ABS",
        "CAST",
        "CEIL",
        "DEQUANTIZE",
        "ELU",
        "EXP",
        "FLOOR",
        "GELU",
        "HARD_SWISH",
        "LEAKY_RELU",
        "LOG",
        "LOGISTIC",
    ),
    *(
        "L2_NORMALIZATION",
        "NEG",
        "QUANTIZE",
        "RELU",
        "RELU6",
        "RELU_0_TO_1",
        "RELU_N1_TO_1",
        "REVERSE_V2",
        "ROUND",
        "RSQRT",
        "SOFTMAX",
    ),
    *("SQRT", "SQUARE", "TANH"),
)
_TOGETHER = (
    *("ADD", "SUB", "MUL", "DIV", "FLOOR_DIV", "FLOOR_MOD", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE", "PRELU"),
    *("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "EQUAL", "NOT_EQUAL", "SELECT_V2", "LOGICAL_AND", "LOGICAL_OR"),
)
OPERATORS: dict[str, Callable[[Any, Sequence[Value]], Shapes]] = {
    **dict.fromkeys(_ALIKE, _same),
    **dict.fromkeys(_TOGETHER, _broadcast),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _reduce),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _pool),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resize),
    **dict.fromkeys(("PAD", "PADV2"), _pad),
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": lambda one, x: _conv(one, x, depthwise=True),
    "FULLY_CONNECTED": _dense,
    "CONCATENATION": _concat,
    "PACK": _pack,
    "RESHAPE": _reshape,
    "TRANSPOSE": _transpose,
    "STRIDED_SLICE": _strided,
    "SLICE": _slice,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "SPLIT": _split,
    "BROADCAST_TO": _broadcast_to,
    "TFLite_Detection_PostProcess": _post,
}
