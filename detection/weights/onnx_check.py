"""An ONNX file that is anybody's, looked at before a runtime is given it: no numbers of other files, operators of a list, no
loops, and no step that asks for more memory or work than detectors do. Neither onnx nor a runtime is needed.

Runtimes trust what they are given: they follow external data wherever it points, and a few bytes of a graph may ask for
gigabytes or never end. Each tensor's shape is worked out here, for one image, as the runtime will work it out.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from detection.errors import BadWeightsError, quoted
from detection.files import open_regular
from detection.weights.onnx_reader import Graph, Node, Refused, Value, read_graph

MOST_HELD = 1 << 28  # numbers that are needed at one time, for one image
MOST_WORK = 1 << 41  # multiply-adds of one image


def check_onnx(
    path: Path,
    input_size: tuple[int, int] | None,
    floats: bool = False,
    outputs: tuple[str, ...] = ("encodings", "logits"),
) -> None:
    """Raises BadWeightsError, one line, for a file that no runtime should be given.

    input_size: (height, width), as its card says: a detector that mobilessd exported, or a file that says so. None: any
    network, of any operators of ONNX itself, of which sizes are not worked out. floats: its input is float32 [1, 3, h, w] in
    the place of uint8 [N, h, w, 3]. outputs: that it has to have.
    """
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            graph = read_graph(data)
            _check_order(graph)
            if input_size is not None:
                _run(graph, input_size, floats, outputs)
    except Refused as reason:
        raise BadWeightsError(f"{path}: was not opened: {reason}; export it again") from None
    except OSError as error:
        raise BadWeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # bytes that are no such message, sides that are none
        raise BadWeightsError(f"{path}: not a whole ONNX file ({type(error).__name__}); export it again") from None


def _check_order(graph: Graph) -> None:
    """Each operator reads what was made before it, so that there is no loop."""
    known = {*graph.values, *(name for name, _, _ in graph.inputs)}
    for node in graph.nodes:
        missing = next((name for name in node.inputs if name not in known), None)
        if missing is not None:
            raise Refused(f"nothing before {node.op} makes {quoted(missing)}")
        made = {name for name in node.outputs if name}
        if known & made:
            raise Refused(f"{quoted(min(known & made))} is made twice")
        known |= made


def _run(graph: Graph, input_size: tuple[int, int], floats: bool, outputs: tuple[str, ...]) -> None:
    """Works out every shape in order, and what is held and done at most."""
    given = [one for one in graph.inputs if one[0] not in graph.values]
    sides = (3, *input_size) if floats else (*input_size, 3)
    if len(given) != 1 or given[0][1][1:] != [*sides] or given[0][2] != (1 if floats else 2):
        raise Refused(
            f"its input is no {'float32' if floats else 'uint8'} image of {input_size[0]} x {input_size[1]} pixels"
        )
    graph.define(given[0][0], Value((1, *sides)))
    last = {name: at for at, node in enumerate(graph.nodes) for name in node.inputs}
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    held, work, constants = 0, 0, set(graph.values)
    for at, node in enumerate(graph.nodes):
        if node.op not in OPERATORS:
            raise Refused(f"the operator {quoted(node.op)} is none that detectors of mobilessd have")
        inputs = [graph.values[name] for name in node.inputs]
        made = OPERATORS[node.op](node, inputs)
        for name in node.outputs:
            if name:
                graph.define(name, made)
                held += made.size
        if min(made.shape, default=0) < 0 or held > MOST_HELD:
            raise Refused(f"{node.op} asks for more than {MOST_HELD:,} numbers at a time")
        if node.op == "Conv":
            work += made.size * math.prod(inputs[1].shape[1:])
            if work > MOST_WORK:
                raise Refused(f"more than {MOST_WORK:,} multiply-adds for one image")
        for name in {*node.inputs, *node.outputs} - constants:
            held -= graph.values[name].size if last.get(name, at) == at else 0
    lost = [name for name in outputs if name not in graph.values or name not in graph.outputs]
    if lost:
        raise Refused(f"it has no outputs {' and '.join(outputs)}")


# Shapes ---------------------------------------------------------------------------------------------------------------


def _same(node: Node, x: Sequence[Value]) -> Value:
    return Value(x[0].shape, x[0].numbers if node.op in ("Identity", "Cast") else None)


def _broadcast(node: Node, x: Sequence[Value]) -> Value:
    return Value(tuple(int(side) for side in np.broadcast_shapes(*[one.shape for one in x])))


def _window(node: Node, x: Value, kernel: Sequence[int]) -> list[int]:
    """The sides of what a window gives that is moved over [N, C, H, W]."""
    if node.texts.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise Refused(f"{node.op} pads by a rule of its own")
    steps, gaps = node.ints.get("strides", [1, 1]), node.ints.get("dilations", [1, 1])
    pads = node.ints.get("pads", [0] * 4)
    if (len(x.shape), len(kernel), len(steps), len(gaps), len(pads)) != (4, 2, 2, 2, 4):
        raise Refused(f"{node.op} is of other than two dimensions")
    if not all(1 <= n <= 1024 for n in (*steps, *gaps, *kernel)) or not all(0 <= n <= 1024 for n in pads):
        raise Refused(f"{node.op} has steps or borders that no layer has")
    sides = []
    for k in (0, 1):
        room = x.shape[2 + k] + pads[k] + pads[k + 2] - gaps[k] * (kernel[k] - 1) - 1
        sides.append((room + (steps[k] - 1 if node.one("ceil_mode", 0) else 0)) // steps[k] + 1)
    if min(sides) < 1:
        raise Refused(f"{node.op} meets a map that is smaller than itself")
    return sides


def _conv(node: Node, x: Sequence[Value]) -> Value:
    weight, groups = x[1].shape, node.one("group", 1)
    if len(weight) != 4 or groups < 1 or x[0].shape[1] != weight[1] * groups or weight[0] % groups:
        raise Refused(f"a convolution of {quoted(list(weight))} in {groups} groups does not fit what it is given")
    if (
        len(x) > 2
        and x[2].shape not in ((), (weight[0],))
        or node.ints.get("kernel_shape", list(weight[2:])) != list(weight[2:])
    ):
        raise Refused("a convolution does not fit its own weights")
    return Value((x[0].shape[0], weight[0], *_window(node, x[0], weight[2:])))


def _pool(node: Node, x: Sequence[Value]) -> Value:
    return Value((*x[0].shape[:2], *_window(node, x[0], node.ints.get("kernel_shape", []))))


def _concat(node: Node, x: Sequence[Value]) -> Value:
    axis = _axis(node.one("axis", 0), x[0].shape)
    sides = list(x[0].shape)
    sides[axis] = sum(one.shape[axis] for one in x)
    if any(one.shape[:axis] + one.shape[axis + 1 :] != x[0].shape[:axis] + x[0].shape[axis + 1 :] for one in x):
        raise Refused("what is laid side by side does not fit")
    return Value(tuple(sides))


def _reshape(node: Node, x: Sequence[Value]) -> Value:
    sides = [int(side) for side in _numbers(node, x[1])]
    if node.one("allowzero", 0) or sides.count(-1) > 1 or min(sides, default=0) < -1:
        raise Refused("a new shape is none")
    sides = [x[0].shape[k] if side == 0 else side for k, side in enumerate(sides)]
    known = math.prod(side for side in sides if side != -1)
    sides = [x[0].size // max(known, 1) if side == -1 else side for side in sides]
    if math.prod(sides) != x[0].size:
        raise Refused(f"what has {quoted(list(x[0].shape))} cannot have the shape {quoted(sides)}")
    return Value(tuple(sides))


def _transpose(node: Node, x: Sequence[Value]) -> Value:
    order = node.ints.get("perm", list(range(len(x[0].shape)))[::-1])
    if sorted(order) != list(range(len(x[0].shape))):
        raise Refused("an order of axes is none")
    return Value(tuple(x[0].shape[k] for k in order))


def _expand(node: Node, x: Sequence[Value]) -> Value:
    sides = np.broadcast_shapes(x[0].shape, tuple(int(side) for side in _numbers(node, x[1])))
    return Value(tuple(int(side) for side in sides))


def _pad(node: Node, x: Sequence[Value]) -> Value:
    pads = [int(number) for number in _numbers(node, x[1])]
    rank = len(x[0].shape)
    if len(pads) != 2 * rank or not all(-16384 <= pad <= 16384 for pad in pads):
        raise Refused("a border is none")
    return Value(tuple(max(side + pads[k] + pads[rank + k], 0) for k, side in enumerate(x[0].shape)))


def _slice(node: Node, x: Sequence[Value]) -> Value:
    starts, ends = (_numbers(node, one).ravel().tolist() for one in x[1:3])
    axes = _numbers(node, x[3]).ravel().tolist() if len(x) > 3 and x[3].numbers is not None else range(len(starts))
    steps = _numbers(node, x[4]).ravel().tolist() if len(x) > 4 and x[4].numbers is not None else [1] * len(starts)
    sides, index = list(x[0].shape), [slice(None)] * len(x[0].shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        at = _axis(int(axis), x[0].shape)
        index[at] = slice(int(start), int(end) if step > 0 or end >= -sides[at] else None, int(step))
        sides[at] = len(range(*index[at].indices(sides[at])))
    return Value(tuple(sides), None if x[0].numbers is None else x[0].numbers[tuple(index)])


def _resize(node: Node, x: Sequence[Value]) -> Value:
    scales = x[2] if len(x) > 2 else Value(())
    if scales.numbers is not None and scales.numbers.size:
        sides = [
            math.floor(side * float(scale)) for side, scale in zip(x[0].shape, scales.numbers.ravel(), strict=True)
        ]
    else:
        sides = [int(side) for side in _numbers(node, x[3])]
    if len(sides) != len(x[0].shape) or min(sides) < 0:
        raise Refused("a new size is none")
    return Value(tuple(sides))


def _gather(node: Node, x: Sequence[Value]) -> Value:
    axis = _axis(node.one("axis", 0), x[0].shape)
    shape = x[0].shape[:axis] + x[1].shape + x[0].shape[axis + 1 :]
    if x[0].numbers is not None and x[1].numbers is not None and x[0].numbers.ndim == 1:
        return Value(shape, x[0].numbers[x[1].numbers.astype(np.int64)])
    return Value(shape)


def _gather_nd(node: Node, x: Sequence[Value]) -> Value:
    batch, depth = node.one("batch_dims", 0), x[1].shape[-1]
    if not 0 <= batch < len(x[1].shape) or batch + depth > len(x[0].shape):
        raise Refused("places are none")
    return Value(x[1].shape[:-1] + x[0].shape[batch + depth :])


def _unsqueeze(node: Node, x: Sequence[Value]) -> Value:
    axes = node.ints.get("axes") or [int(axis) for axis in _numbers(node, x[1])]
    sides = list(x[0].shape)
    for axis in sorted(_axis(axis, (*x[0].shape, *axes)) for axis in axes):
        sides.insert(axis, 1)
    return Value(tuple(sides))


def _squeeze(node: Node, x: Sequence[Value]) -> Value:
    axes = node.ints.get("axes") or [int(axis) for axis in _numbers(node, x[1])]
    gone = {_axis(axis, x[0].shape) for axis in axes}
    if any(x[0].shape[axis] != 1 for axis in gone):
        raise Refused("an axis of more than one cannot go")
    return Value(tuple(side for k, side in enumerate(x[0].shape) if k not in gone))


def _reduce(node: Node, x: Sequence[Value]) -> Value:
    axes = node.ints.get("axes") or [int(a) for a in _numbers(node, x[1])] if len(x) > 1 else node.ints.get("axes", [])
    gone = {_axis(axis, x[0].shape) for axis in axes} or set(range(len(x[0].shape)))
    kept = node.one("keepdims", 1)
    return Value(tuple(1 if k in gone else side for k, side in enumerate(x[0].shape) if kept or k not in gone))


def _nms(node: Node, x: Sequence[Value]) -> Value:
    if len(x[0].shape) != 3 or len(x[1].shape) != 3:
        raise Refused("boxes or scores are none")
    each = min(int(_numbers(node, x[2]).ravel()[0]), x[1].shape[2]) if len(x) > 2 else x[1].shape[2]
    return Value((x[1].shape[0] * x[1].shape[1] * max(each, 0), 3))


def _top(node: Node, x: Sequence[Value]) -> Value:
    axis = _axis(node.one("axis", -1), x[0].shape)
    number = int(_numbers(node, x[1]).ravel()[0])
    if not 0 <= number <= x[0].shape[axis]:
        raise Refused("more are wanted than there are")
    return Value(x[0].shape[:axis] + (number,) + x[0].shape[axis + 1 :])


def _numbers(node: Node, value: Value) -> np.ndarray:
    if value.numbers is None:
        raise Refused(f"{node.op} depends on numbers that are computed")
    return value.numbers


def _axis(axis: int, shape: Sequence[int]) -> int:
    if not -len(shape) <= axis < len(shape):
        raise Refused("an axis is none")
    return axis % len(shape)


def _held(node: Node, x: Sequence[Value]) -> Value:
    if node.value is None:
        raise Refused("a constant has no value")
    return node.value


OPERATORS: dict[str, Callable[[Node, Sequence[Value]], Value]] = {
    **dict.fromkeys(
        ("Identity", "Cast", "Clip", "Relu", "HardSigmoid", "HardSwish", "Sigmoid", "Softmax", "Exp"), _same
    ),
    **dict.fromkeys(("Sqrt", "BatchNormalization", "QuantizeLinear", "DequantizeLinear", "ScatterND"), _same),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Greater", "Where"), _broadcast),
    **dict.fromkeys(("ReduceSum", "ReduceL2", "ReduceMean", "ReduceMax"), _reduce),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    "GlobalAveragePool": lambda node, x: Value((*x[0].shape[:2], 1, 1)),
    "Shape": lambda node, x: Value((len(x[0].shape),), np.array(x[0].shape, np.int64)),
    "Constant": _held,
    "Conv": _conv,
    "Concat": _concat,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Expand": _expand,
    "Pad": _pad,
    "Slice": _slice,
    "Resize": _resize,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "NonMaxSuppression": _nms,
    "TopK": _top,
}
