"""Networks without values: on PyTorch's "meta" device tensors have shapes alone.

What an elementwise operation gives there PyTorch 2.14 works out in Python, and imports its compiler for that (torch._dynamo,
sympy and all: more than a second). These few shapes need none of it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# By name, as functions, methods and operators, in place or not.
_ELEMENTWISE = frozenset(
    (
        *("add", "sub", "mul", "div", "truediv", "clamp", "clamp_min", "relu", "relu6", "hardtanh", "hardswish"),
        *("hardsigmoid", "sigmoid", "batch_norm", "dropout"),
    )
)
# Of first weights, and what rounds them off.
_DRAWS = frozenset(("normal_", "uniform_", "kaiming_uniform_", "constant_", "erfinv_", "zero_", "fill_"))


class ShapesOnly(TorchFunctionMode):
    """While it is entered, elementwise operations and first weights on "meta" are answered here, all else by PyTorch."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = kwargs or {}
        first = args[0][0] if func is torch.cat and args and args[0] else args[0] if args else given.get("tensor")
        if isinstance(first, Tensor) and first.is_meta and "out" not in given:
            found = _joined(*args, **given) if func is torch.cat else _answer(func, first, args, given)
            if found is not None:
                return found
        return func(*args, **given)


@contextmanager
def shapes_only() -> Iterator[None]:
    """What is built inside, or run on "meta", has shapes and no values."""
    with torch.device("meta"), ShapesOnly():
        yield


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """A convolution of [N, C, H, W], where it is possible."""
    if x.dim() != 4 or isinstance(padding, str) or x.shape[1] != weight.shape[1] * groups or weight.dtype != x.dtype:
        return None
    sides = []
    for axis, length in enumerate(x.shape[2:]):
        step, pad, hole = (n if isinstance(n, int) else n[axis] for n in (stride, padding, dilation))
        sides.append((length + 2 * pad - hole * (weight.shape[2 + axis] - 1) - 1) // step + 1)
    return x.new_empty((x.shape[0], weight.shape[0], *sides)) if min(sides) > 0 else None


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    """torch.cat, where it is possible."""
    shapes = [list(one.shape) for one in tensors]
    length = sum(shape.pop(dim) for shape in shapes if len(shape) > 1)
    if any(shape != shapes[0] for shape in shapes) or any(one.dtype != tensors[0].dtype for one in tensors):
        return None
    joined = list(tensors[0].shape)
    joined[dim] = length
    return tensors[0].new_empty(joined)


def _answer(func: Any, first: Tensor, args: tuple, given: dict[str, Any]) -> Tensor | None:
    """What an operation gives whose first argument is on "meta", or None where PyTorch has to say it."""
    name = getattr(func, "__name__", "")
    if name in _DRAWS:
        return first
    if name == "mean" or name == "linalg_vector_norm" and len(args) == 1:  # of the shape of a sum
        return torch.sum(*args, **given)
    if func is torch.conv2d:
        return _convolved(*args, **given)
    if func is F.adaptive_avg_pool2d:
        size = args[1] if len(args) > 1 else given["output_size"]
        sides = (size, size) if isinstance(size, int) else size
        return first.new_empty((*first.shape[:-2], *(n if s is None else s for s, n in zip(sides, first.shape[-2:]))))
    if name.strip("_").removeprefix("i") not in _ELEMENTWISE and name.strip("_") not in _ELEMENTWISE:
        return None
    others = [] if "norm" in name else [one for one in args[1:] if isinstance(one, Tensor)]
    if any(one.dtype != first.dtype or not one.is_meta for one in others):
        return None
    sides = []
    for lengths in zip_longest(*(reversed(one.shape) for one in (first, *others)), fillvalue=1):
        known = {length for length in lengths if length != 1} or {1}
        if len(known) > 1:
            return None
        sides.append(known.pop())
    return first.new_empty(sides[::-1])
