"""Decoding and suppression as part of an ONNX graph, for programs that have no post-processing of their own.

The same rules as `boxes.postprocess`, with the standard operators of ONNX alone, for any batch. Needs the onnx package.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detection.boxes.geometry import BoxCoder
from detection.boxes.postprocess import PostSettings

OUTPUTS = ("boxes", "scores", "classes", "count")


def add_nms(model: Any, anchors: np.ndarray, coder: BoxCoder, settings: PostSettings) -> None:
    """Appends decoding, class-wise NMS and the choice of the best to a graph with raw outputs, in place.

    anchors [A, 4] `cxcywh`. New outputs, before the raw ones, k = max_detections (less where the network has fewer):
    boxes float32 [N, k, 4] `xyxy` in fractions of the image (0..1), scores float32 [N, k] best first, classes int64
    [N, k] (0: the first object class), count int64 [N]. Rows from `count` on are empty: score 0, class -1.
    """
    from onnx import TensorProto, checker, helper

    graph = model.graph
    classes = graph.output[1].type.tensor_type.shape.dim[2].dim_value - 1
    total, best = len(anchors), min(settings.max_detections, len(anchors) * classes)
    add = GraphBuilder(graph)
    boxes = _decode(add, anchors, coder)
    if settings.activation == "sigmoid":
        scores = add("Sigmoid", "logits")
    else:
        scores = add("Softmax", "logits", axis=2)
    scores = add("Slice", scores, add.constant([1]), add.constant([classes + 1]), add.constant([2]))
    scores = add("Transpose", scores, perm=[0, 2, 1])  # [N, C, A]
    picked = add(
        "NonMaxSuppression",
        boxes,
        scores,
        add.constant([best]),
        add.constant([settings.iou], np.float32),
        add.constant([settings.score], np.float32),
    )
    # The survivors of an image are a different number in each: written into zeros, the best are found by one sort.
    zeros = add("Mul", scores, add.constant(0.0, np.float32))
    left = add("ScatterND", zeros, picked, add("GatherND", scores, picked))
    flat = add("Reshape", left, add.constant([0, -1]))  # [N, C * A]
    values, places = add("TopK", flat, add.constant([best]), outputs=2, axis=1)
    where = add("Mod", places, add.constant(total))
    rows = add("GatherND", boxes, add("Unsqueeze", where, add.constant([2])), batch_dims=1)
    full = add("Greater", values, add.constant(0.0, np.float32))
    add("Where", add("Unsqueeze", full, add.constant([2])), rows, add.constant(0.0, np.float32), names=["boxes"])
    add("Identity", values, names=["scores"])
    add("Where", full, add("Div", places, add.constant(total)), add.constant(-1), names=["classes"])
    counted = add("Cast", full, to=TensorProto.INT64)
    add("ReduceSum", counted, add.constant([1]), names=["count"], keepdims=0)
    shapes: dict[str, tuple[int, list[Any]]] = {
        "boxes": (TensorProto.FLOAT, ["N", best, 4]),
        "scores": (TensorProto.FLOAT, ["N", best]),
        "classes": (TensorProto.INT64, ["N", best]),
        "count": (TensorProto.INT64, ["N"]),
    }
    for place, name in enumerate(OUTPUTS):
        kind, shape = shapes[name]
        graph.output.insert(place, helper.make_tensor_value_info(name, kind, shape))
    checker.check_model(model)


def _decode(add: GraphBuilder, anchors: np.ndarray, coder: BoxCoder) -> str:
    """encodings [N, A, 4] -> boxes `xyxy` [N, A, 4] in 0..1, in the order of operations of `BoxCoder.decode`."""
    centre, size = anchors[None, :, :2], anchors[None, :, 2:]
    shift = add("Slice", "encodings", add.constant([0]), add.constant([2]), add.constant([2]))
    growth = add("Slice", "encodings", add.constant([2]), add.constant([4]), add.constant([2]))
    growth = add("Mul", growth, add.constant(coder.variances[2:], np.float32))
    if coder.max_log is not None:
        growth = add("Min", growth, add.constant(coder.max_log, np.float32))
    half = add("Mul", add("Exp", growth), add.constant(size / 2, np.float32))
    shift = add("Mul", add("Mul", shift, add.constant(coder.variances[:2], np.float32)), add.constant(size, np.float32))
    middle = add("Add", shift, add.constant(centre, np.float32))
    corners = add("Concat", add("Sub", middle, half), add("Add", middle, half), axis=2)
    return add("Clip", corners, add.constant(0.0, np.float32), add.constant(1.0, np.float32))


class GraphBuilder:
    """Appends nodes to a graph: `add(op, inputs..., attributes)` returns the output's name. prefix: of the names it makes."""

    def __init__(self, graph: Any, prefix: str = "nms") -> None:
        self.graph, self.prefix, self.count = graph, prefix, 0

    def __call__(
        self, op: str, *inputs: str, outputs: int = 1, names: list[str] | None = None, **attributes: Any
    ) -> Any:
        from onnx import helper

        self.count += 1
        made = names or [f"{self.prefix}/{self.count}/{op}/{k}" for k in range(outputs)]
        self.graph.node.append(
            helper.make_node(op, list(inputs), made, f"{self.prefix}/{self.count}/{op}", **attributes)
        )
        return made[0] if len(made) == 1 else made

    def constant(self, value: Any, kind: type = np.int64) -> str:
        from onnx import numpy_helper

        self.count += 1
        name = f"{self.prefix}/{self.count}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name
