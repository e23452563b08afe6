"""A plain ONNX graph: float input that is normalised outside, raw outputs, one image, no casts; with the anchors beside it."""

from __future__ import annotations

import json

import numpy as np

from detection.export.targets.base import Job, Written
from detection.export.targets.graphs import Core, float_graph
from detection.runtimes.interfaces import CENTRE
from detection.runtimes.onnx_graph import save


def write(job: Job) -> Written:
    """model.onnx, anchors.npy and input.json."""
    write_parts(job)
    height, width = job.spec.input.size
    return Written(
        "model.onnx",
        (
            f"Opset {job.opset}. Input `images`: float32 RGB [1, 3, {height}, {width}], (x - 127.5) / 127.5.",
            f"Outputs `encodings` [1, {len(job.anchors)}, 4], `logits` (background first): see input.json and anchors.npy.",
            "A box is centre = anchor centre + t * variance * anchor size, size = anchor size * exp(t * variance);",
            f"scores are the {job.spec.scores} of the logits; then NMS class by class, IoU 0.6.",
        ),
    )


def write_parts(job: Job) -> None:
    """model.onnx (`images` float [1, 3, h, w] -> encodings [1, A, 4], logits [1, A, 1 + C]), anchors.npy, input.json."""
    graph = float_graph(Core(job.network), job.network, "images", ("encodings", "logits"), job.opset)
    save(graph, job.folder / "model.onnx", job.card("core"))
    describe(job)


def describe(job: Job) -> None:
    """Writes anchors.npy and input.json, by which the outputs of a core graph are decoded."""
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
    (job.folder / "input.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
