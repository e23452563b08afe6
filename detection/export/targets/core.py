"""A plain ONNX graph: float input that is normalised outside, raw outputs, one image, no casts; with the anchors beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from detection.export.targets.base import Job, Written
from detection.export.targets.graphs import Core, float_graph
from detection.runtimes.interfaces import CENTRE
from detection.runtimes.onnx_graph import save


def write(job: Job) -> Written:
    """model.onnx, anchors.npy and input.json."""
    write_parts(job)
    return Written(
        "model.onnx",
        (
            f"Opset {job.opset}. {input_line(job)}",
            f"Outputs `encodings` [1, {len(job.anchors)}, 4], `logits` (background first): see input.json and anchors.npy.",
            "A box is centre = anchor centre + t * variance * anchor size, size = anchor size * exp(t * variance);",
            f"scores are the {job.spec.scores} of the logits; then NMS class by class, IoU 0.6.",
        ),
    )


def input_line(job: Job) -> str:
    """What a core graph takes, for a README."""
    height, width = job.spec.input.size
    return f"Input `images`: float32 RGB [1, 3, {height}, {width}], (x - 127.5) / 127.5."


def core_graph(job: Job) -> Any:
    """The `onnx.ModelProto`: `images` float [1, 3, h, w] -> encodings [1, A, 4], logits [1, A, 1 + C]."""
    return float_graph(Core(job.network), job.network, "images", ("encodings", "logits"), job.opset)


def write_parts(job: Job, graph: Any = None) -> None:
    """model.onnx (`graph`, a core graph that was changed, where one is given), and anchors.npy and input.json, by which its
    outputs are decoded."""
    save(core_graph(job) if graph is None else graph, job.folder / "model.onnx", job.card("core"))
    np.save(job.folder / "anchors.npy", job.anchors)
    coder = job.spec.coder
    about = {
        "input": {
            "name": "images",
            "shape": [1, 3, *job.spec.input.size],
            "color": "RGB",
            "mean": CENTRE,
            "std": CENTRE,
        },
        "outputs": {"encodings": "tx, ty, tw, th of each anchor", "logits": "background first"},
        "anchors": "anchors.npy: centre x, centre y, width, height in fractions of the image",
        "variances": list(coder.variances),
        "max_log": coder.max_log,
        "scores": job.spec.scores,
    }
    job.put("input.json", about)
