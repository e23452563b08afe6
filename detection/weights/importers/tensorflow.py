"""A graph of the TF Object Detection API -> a detector taken apart, whatever file it stood in.

Nothing goes by names where structure says it: what stands behind a convolution is collected from the graph
(`tensorflow_convolutions`), and so are normalisation, anchors, box coder and score converter.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from detection.boxes.geometry import to_cxcywh
from detection.errors import BadWeightsError
from detection.weights.importers.folding import LARGEST, Constants, Operation
from detection.weights.importers.graph import Convolution, DetectorGraph, Node, ancestors, count_sums, trace
from detection.weights.importers.tensorflow_convolutions import CONVOLUTIONS, SUMS, Convolutions

MOST_NODES = 100_000  # of a graph
PASSES_ON = (
    *("Identity", "Reshape", "Squeeze", "ExpandDims", "ConcatV2", "Transpose", "Pad", "ResizeNearestNeighbor"),
    *("Shape", "StridedSlice", "Pack", "Prod", "FakeQuantWithMinMaxVars"),
)


def read_detector(operations: Iterable[Operation], file: str) -> DetectorGraph:
    """The operations of a graph, in any order -> the detector in it. Raises BadWeightsError, one line, for a graph that is
    no SSD of TensorFlow's, or follows rules that a network of ours cannot."""
    graph = _Graph(_within_limits(operations, file), file)
    encodings, scores = graph.outputs()
    nodes = [graph.node(operation) for operation in graph.operations.values() if operation.op != "Const"]
    trunk, box_heads, class_heads = trace(nodes, encodings, scores, file)
    mean, std = graph.normalisation(nodes, trunk[0].name)
    per_cell = box_heads[0].layers[-1].shape[0] // 4
    return DetectorGraph(
        file=file,
        trunk=trunk,
        box_heads=box_heads,
        class_heads=class_heads,
        anchors=graph.anchors(),
        input_size=graph.input_size(),
        mean=mean,
        std=std,
        columns=class_heads[0].layers[-1].shape[0] // per_cell,
        variances=graph.variances(),
        scores=graph.converter(scores),
        padding=graph.padding(trunk),
        activation=graph.activation(nodes, trunk[0].name, encodings, scores),
        sums=count_sums(nodes, trunk, encodings, scores),
    )


def _within_limits(operations: Iterable[Operation], file: str) -> dict[str, Operation]:
    """By name. A few bytes may stand for a constant of any size, and a graph for any number of those."""
    found: dict[str, Operation] = {}
    numbers = 0
    for operation in operations:
        value = operation.attributes.get("value") if operation.op == "Const" else None
        numbers += value.size if isinstance(value, np.ndarray) else 0
        if numbers > LARGEST or len(found) > MOST_NODES:
            raise BadWeightsError(
                f"{file}: more than {LARGEST:,} numbers or {MOST_NODES:,} nodes, which no detector has"
            )
        found[operation.name] = operation
    return found


class _Graph:
    def __init__(self, operations: dict[str, Operation], file: str) -> None:
        self.operations, self.file = operations, file
        self.constants = Constants(operations, file)
        self.convolutions = Convolutions(operations, self.constants, file)

    def node(self, operation: Operation) -> Node:
        inputs = [t.partition(":")[0] for t in operation.inputs if not self.constants.has(t)]
        convolution = self.convolutions.of(operation) if operation.op in CONVOLUTIONS else None
        return Node(operation.op.lower(), operation.name, inputs, convolution)

    def outputs(self) -> tuple[str, str]:
        """The names of encodings and scores: both concatenated from the maps, the encodings first."""
        names = {o.name for o in self.operations.values() if o.op == "ConcatV2"}
        scopes = [name.removesuffix("concat") for name in names if f"/{name}".endswith("/concat")]
        # In functions of TensorFlow 2 they lie in a scope, and the post-processing's own in longer ones.
        for scope in sorted(scopes, key=len):
            if f"{scope}concat_1" in names:
                return f"{scope}concat", f"{scope}concat_1"
        raise BadWeightsError(
            f"{self.file}: has no box and class outputs (concat, concat_1), so it is no SSD of the TF zoo"
        )

    def activation(self, nodes: list[Node], first: str, *outputs: str) -> str:
        """relu6, or relu. Raises BadWeightsError for any operation between the first layer and the outputs that is not
        known: of another activation, say, nothing would be seen in the weights' shapes."""
        made_by = {node.output: node for node in nodes}
        found, image = set(), set(ancestors(made_by, *made_by[first].inputs))
        for name in ancestors(made_by, *outputs):
            operation = self.operations[name]
            if operation.op in ("Relu6", "Relu"):
                found.add(operation.op.lower())
            elif name not in image | self.convolutions.known and not self._passes_on(operation):
                raise BadWeightsError(f"{self.file}: has {name} ({operation.op}), which no network here has")
        if len(found) != 1:
            raise BadWeightsError(f"{self.file}: has {' and '.join(sorted(found)) or 'no'} activations")
        return found.pop()

    def _passes_on(self, operation: Operation) -> bool:
        """Whether it only passes numbers on: nothing is added to them, nor are they multiplied."""
        if operation.op in ("Mul", *SUMS):
            fixed = [self.constants.value(t) for t in operation.inputs if self.constants.has(t)]
            neutral = 1 if operation.op == "Mul" else 0
            return all((value == neutral).all() for value in fixed) and (bool(fixed) or operation.op != "Mul")
        return operation.op in (*CONVOLUTIONS, *PASSES_ON)

    def normalisation(
        self, nodes: list[Node], first: str
    ) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and std of pixels 0..255, from what is added and multiplied between the image and the first layer."""
        made_by = {node.output: node for node in nodes}
        factor, term, seen = np.ones(3), np.zeros(3), 0
        for name in ancestors(made_by, first):  # the nearest first
            operation = self.operations[name]
            fixed = [t for t in operation.inputs if self.constants.has(t)]
            if operation.op not in ("Add", "AddV2", "Sub", "Mul", "RealDiv") or len(fixed) != 1:
                continue
            value = self.constants.value(fixed[0])
            if not np.issubdtype(value.dtype, np.floating) or value.size not in (1, 3):
                continue
            number, seen = value.astype(np.float64).ravel(), seen + 1
            if operation.op in ("Mul", "RealDiv"):
                factor = factor * (number if operation.op == "Mul" else 1 / number)
            else:
                term = term + factor * (-number if operation.op == "Sub" else number)
        if not seen or not np.isfinite(factor).all() or (factor <= 0).any():
            raise BadWeightsError(f"{self.file}: its normalisation (Preprocessor) is not where the TF zoo keeps it")
        # float32 holds 2/255 as 1/127.4999925
        mean, std = [[round(float(v), 4) for v in row] for row in (-term / factor, 1 / factor)]
        return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])

    def anchors(self) -> np.ndarray:
        """`cxcywh` fractions [A, 4], from the corners that the post-processing decodes with."""
        wanted = self._in_postprocessor("ExpandDims", "ExpandDims", "Const")
        corners = self.constants.value(wanted.name) if wanted and self.constants.has(wanted.name) else None
        if corners is None or corners.ndim != 3 or corners.shape[-1] != 4:
            raise BadWeightsError(
                f"{self.file}: carries no anchors (Postprocessor/ExpandDims), so it is no SSD of the TF zoo"
            )
        return to_cxcywh(corners[0][:, [1, 0, 3, 2]].astype(np.float64)).astype(np.float32)

    def input_size(self) -> tuple[int, int]:
        for operation in self.operations.values():
            if operation.op == "ResizeBilinear" and self.constants.has(operation.inputs[1]):
                height, width = (int(side) for side in self.constants.value(operation.inputs[1]))
                return height, width
        raise BadWeightsError(f"{self.file}: says nowhere what size it resizes images to (fixed_shape_resizer)")

    def variances(self) -> tuple[float, float, float, float]:
        """tx, ty, tw, th over the box coder's scales; of a graph without decoder those of all of TensorFlow's SSDs."""
        division = "truediv" if self._in_postprocessor("Decode/truediv", "RealDiv") else "div"
        names = [f"Decode/{division}{number}" for number in ("_1", "", "_3", "_2")]
        found = [self._in_postprocessor(name, "RealDiv") for name in names]
        fixed = [next((t for t in o.inputs if self.constants.has(t)), None) if o else None for o in found]
        scales = [float(self.constants.value(t)) for t in fixed if t is not None]
        if len(scales) != 4:
            return 0.1, 0.1, 0.2, 0.2
        return 1 / scales[0], 1 / scales[1], 1 / scales[2], 1 / scales[3]

    def converter(self, scores: str) -> str:
        """What turns logits into scores: "sigmoid", or "softmax"."""
        made_by = {o.name: [t.partition(":")[0] for t in o.inputs] for o in self.operations.values()}
        for operation in self.operations.values():
            if operation.op == "Softmax":
                name = made_by[operation.name][0]
                seen: set[str] = set()
                while name not in (scores, *seen) and self.operations[name].op in ("Reshape", "Identity"):
                    if not made_by[name]:
                        break
                    seen.add(name)
                    name = made_by[name][0]
                if name == scores:
                    return "softmax"
        return "sigmoid"

    def padding(self, trunk: list[Convolution]) -> str:
        kinds = set()
        for layer in trunk:
            if layer.shape[2] > 1:
                kind = self.operations[layer.name].attributes.get("padding", b"SAME")
                kinds.add(kind.decode() if isinstance(kind, bytes) else kind)
        if len(kinds) > 1 or kinds - {"SAME", "VALID"}:
            raise BadWeightsError(f"{self.file}: pads in ways that no network here does ({', '.join(sorted(kinds))})")
        return "symmetric" if kinds == {"VALID"} else "same"  # VALID behind a Pad: use_explicit_padding

    def _in_postprocessor(self, name: str, *ops: str) -> Operation | None:
        end = f"Postprocessor/{name}"
        return next(
            (o for o in self.operations.values() if o.op in ops and (o.name == end or o.name.endswith(f"/{end}"))), None
        )
