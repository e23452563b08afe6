"""A frozen detector as a graph, whatever file it came from: which convolutions are its trunk (backbone
and extras), which its heads, in what order.

The importers of TensorFlow Lite and of TensorFlow's graphs translate their files into `Node`s; `trace` finds the parts
by walking back from the two outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from detection.boxes.anchors import AnchorSpec
from detection.errors import BadWeightsError

# Operations that only pass a tensor on: walked through on the way back from an output to its convolution.
SHAPE_OPS = {
    "reshape",
    "squeeze",
    "dequantize",
    "quantize",
    "logistic",
    "sigmoid",
    "transpose",
    "expanddims",
    "identity",
    "flatten",
    "softmax",
}
SUMS = {"add", "addv2", "addn", "biasadd"}  # TensorFlow fuses a residual into one of the last two


@dataclass
class Convolution:
    """One convolution with what was folded into it, in PyTorch's layout.

    weight [out, in / groups, kh, kw]; depthwise weights [C, 1, kh, kw]; bias [out] (zeros where the file has none);
    norm: (gamma, beta, mean, variance, eps) where the file still carries a whole batch norm, and then bias is unused.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    depthwise: bool = False
    stride: int = 1
    norm: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.weight.shape)


@dataclass
class Node:
    """An operation: what makes the tensor `output` from the tensors `inputs` (constants left out)."""

    op: str
    output: str
    inputs: list[str]
    convolution: Convolution | None = None


@dataclass
class Head:
    """The prediction layers of one map: [convolution] or [depthwise, convolution], and the tensor they read."""

    layers: list[Convolution]
    source: str


@dataclass
class DetectorGraph:
    """A single-shot detector taken apart. trunk: backbone and extras in execution order. anchors `cxcywh` fractions.
    variances, scores, padding, activation, norm_eps: as in `SSDSpec`; color: as in `InputSpec`.
    anchors: None where the file says a layout instead. yx: each box is (ty, tx, th, tw), as TensorFlow has it.
    sums: how many pairs of tensors it adds, residuals and a pyramid's; None where the file does not say."""

    file: str
    trunk: list[Convolution]
    box_heads: list[Head]
    class_heads: list[Head]
    anchors: np.ndarray | None
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    columns: int
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    scores: str = "sigmoid"
    padding: str = "same"
    activation: str = "relu6"
    norm_eps: float = 0.001
    color: Literal["rgb", "bgr"] = "rgb"
    yx: bool = True
    layout: AnchorSpec | None = None
    sums: int | None = None
    details: dict = field(default_factory=dict)

    @property
    def convolutions(self) -> list[Convolution]:
        """All of them: the trunk's, then the heads'."""
        return [*self.trunk, *[layer for head in (*self.box_heads, *self.class_heads) for layer in head.layers]]


def trace(
    nodes: list[Node], encodings: str, scores: str, file: str
) -> tuple[list[Convolution], list[Head], list[Head]]:
    """The trunk and the two rows of heads of the detector whose outputs are the tensors `encodings` and `scores`."""
    made_by = {node.output: node for node in nodes}
    readers = Counter(name for node in nodes for name in node.inputs)
    box_heads = [_head(made_by, readers, name, file) for name in _branches(made_by, encodings, file)]
    class_heads = [_head(made_by, readers, name, file) for name in _branches(made_by, scores, file)]
    if [h.source for h in box_heads] != [h.source for h in class_heads]:
        raise BadWeightsError(f"{file}: its box and class heads read different maps; this is no SSD of a known kind")
    heads = {layer.name for head in box_heads + class_heads for layer in head.layers}
    trunk: list[Convolution] = []
    seen: set[str] = set()
    for head in box_heads:
        _collect(made_by, head.source, seen, trunk)
    return [layer for layer in trunk if layer.name not in heads], box_heads, class_heads


def _branches(made_by: dict[str, Node], tensor: str, file: str) -> list[str]:
    """The inputs of the concatenation behind an output: one a feature map."""
    node = next((node for node in _back(made_by, tensor) if node.op not in SHAPE_OPS), None)
    if node is None or not node.op.startswith("concat"):
        raise BadWeightsError(f"{file}: its outputs are not concatenated from feature maps, so it is no SSD detector")
    return node.inputs


def _back(made_by: dict[str, Node], tensor: str) -> Iterator[Node]:
    """The node that makes a tensor, the one that makes its first input, and so on, each once: in somebody's file a node may
    be its own input."""
    seen: set[str] = set()
    while (node := made_by.get(tensor)) is not None and node.output not in seen:
        seen.add(node.output)
        yield node
        if not node.inputs:
            return
        tensor = node.inputs[0]


def _head(made_by: dict[str, Node], readers: Counter, tensor: str, file: str) -> Head:
    node = next((node for node in _back(made_by, tensor) if node.convolution is not None and node.inputs), None)
    if node is None:
        raise BadWeightsError(f"{file}: the head behind {tensor} has no convolution; this is no SSD of a known kind")
    assert node.convolution is not None
    layers, source = [node.convolution], node.inputs[0]
    before = None
    for before in _back(made_by, source):
        if before.convolution is not None or len(before.inputs) != 1 or readers[before.output] != 1:
            break
    if before is not None and before.convolution is not None and before.convolution.depthwise and readers[source] == 1:
        layers, source = [before.convolution, *layers], before.inputs[0]
    return Head(layers, source)


def _collect(made_by: dict[str, Node], tensor: str, seen: set[str], found: list[Convolution]) -> None:
    """Depth first, inputs before the node itself: the order in which the network runs."""
    stack = [(tensor, False)]
    while stack:
        name, ready = stack.pop()
        node = made_by.get(name)
        if node is None:
            continue
        if ready:
            if node.convolution is not None:
                found.append(node.convolution)
        elif name not in seen:
            seen.add(name)
            stack.append((name, True))
            stack += [(source, False) for source in reversed(node.inputs)]


def count_sums(nodes: list[Node], trunk: list[Convolution], *outputs: str) -> int:
    """How many additions of two tensors, neither of them constant, lie between the first convolution and the outputs."""
    made_by = {node.output: node for node in nodes}
    first = next(node for node in nodes if node.convolution is trunk[0])
    before = set(ancestors(made_by, *first.inputs))
    between = [made_by[name] for name in ancestors(made_by, *outputs) if name in made_by and name not in before]
    return sum(node.op in SUMS and len(node.inputs) == 2 for node in between)


def ancestors(made_by: dict[str, Node], *tensors: str) -> list[str]:
    """All that is needed for `tensors`, themselves included, the nearest first."""
    found = dict.fromkeys(tensors)
    queue = list(tensors)
    for name in queue:
        for source in made_by[name].inputs if name in made_by else ():
            if source in made_by and source not in found:
                found[source] = None
                queue.append(source)
    return queue
