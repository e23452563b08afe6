"""Where the cells of a network's feature maps look: the middle of each cell's receptive field, asked of the network.

A window of k pixels in steps of s, its input padded by p in front, looks for cell i at pixel s * i - p + (k - 1) / 2.
Under TensorFlow's SAME padding p depends on the parity of the size that the layer meets: at stride 2 an even size has
cell i on pixel 2 i + 1, an odd one on 2 i. Every layer on the way to a map is followed as it is called, so that no
kind of backbone, extra layer or padding needs a rule of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Lattice(NamedTuple):
    """Cell (i, j) of a map looks at pixel (y + i * step_y, x + j * step_x), pixels counted from 0."""

    y: float
    x: float
    step_y: float
    step_x: float

    def seen_by(self, reach: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Lattice:
        """Of a window of `reach` cells, everything (y, x), over a map that has this lattice."""
        y = self.y + self.step_y * ((reach[0] - 1) / 2 - padding[0])
        x = self.x + self.step_x * ((reach[1] - 1) / 2 - padding[1])
        return Lattice(y, x, self.step_y * stride[0], self.step_x * stride[1])


class Follow(TorchFunctionMode):
    """While it is entered, knows the lattice of each tensor [N, C, H, W] that is computed from `image`, whose own cells
    are the pixels."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self._known = {id(image): (image, Lattice(0.0, 0.0, 1.0, 1.0))}  # the tensors too: an id lives as long as they

    def of(self, tensor: Tensor) -> Lattice:
        """Raises KeyError for a tensor whose cells look at no place of their own (a pooled or an interpolated one)."""
        return self._known[id(tensor)][1]

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.dim() == 4:
            found = self._found(func, args, kwargs, result)
            if found is not None:
                self._known[id(result)] = (result, found)
        return result

    def _found(self, func: Any, args: tuple, kwargs: dict, result: Tensor) -> Lattice | None:
        source = self._known.get(id(args[0])) if args else None
        if func in (torch.conv2d, F.conv2d):
            given = dict(zip(("input", "weight", "bias", "stride", "padding", "dilation"), args)) | kwargs
            kernel, dilation = given["weight"].shape[2:], _pair(given.get("dilation", 1))
            reach = ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)
            stride, padding = _pair(given.get("stride", 1)), _pair(given.get("padding", 0))
        elif getattr(func, "__name__", "") == "max_pool2d":
            given = dict(zip(("input", "kernel_size", "stride", "padding"), args)) | kwargs
            reach = _pair(given["kernel_size"])
            stride, padding = _pair(given.get("stride") or reach), _pair(given.get("padding", 0))
        elif func is F.pad:
            left, _, top, _ = (*(kwargs["pad"] if "pad" in kwargs else args[1]), 0, 0)[:4]
            reach, stride, padding = (1, 1), (1, 1), (top, left)
        else:  # whatever leaves the cells where they are: norms, activations, sums, cuts at the far ends
            return self._alike([*args, *kwargs.values()], result)
        return source[1].seen_by(reach, stride, padding) if source is not None else None

    def _alike(self, given: Iterable[Any], result: Tensor) -> Lattice | None:
        """The lattice of the first of the tensors `given` that has one and at least as many cells; none where a map
        with more or fewer cells was made by interpolation or pooling."""
        for one in given:
            known = self._known.get(id(one)) if isinstance(one, Tensor) else None
            if known is not None and one.shape[2:] == result.shape[2:]:
                return known[1]
        return None


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
