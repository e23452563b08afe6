"""jetson-inference's detectNet (dusty-nv/jetson-inference, c/detectNet.cpp: preProcess, postProcessSSD_ONNX): scores first,
decoded boxes, no NMS, as detectNet clusters by itself; labels.txt begins with BACKGROUND."""

from __future__ import annotations

from detection.export.targets.base import Job, Written
from detection.export.targets.graphs import Decoded, float_graph
from detection.runtimes.onnx_graph import save

COMMAND = (
    "detectnet --model=model.onnx --labels=labels.txt --input-blob=input_0 --output-cvg=scores --output-bbox=boxes"
)


def write(job: Job) -> Written:
    """model.onnx, and detect.sh with the command. `input_0` float [1, 3, h, w] -> scores [1, A, 1 + C], boxes [1, A, 4]."""
    graph = float_graph(Decoded(job.network, job.anchors), job.network, "input_0", ("scores", "boxes"), job.opset)
    save(graph, job.folder / "model.onnx", job.card("jetson"))
    script = (
        "#!/bin/sh\n# sh detect.sh INPUT OUTPUT: images, videos and cameras as detectnet names them\n"
        f'cd "$(dirname "$0")"\nexec {COMMAND} "$@"\n'
    )
    job.put("detect.sh", script)
    height, width = job.spec.input.size
    count, columns = len(job.anchors), job.spec.num_classes + 1
    return Written(
        "model.onnx",
        (
            f"Opset {job.opset}. Input `input_0`: float32 RGB [1, 3, {height}, {width}], (x / 255 - 0.5) / 0.5.",
            f"Outputs `scores` [1, {count}, {columns}], background first, `boxes` [1, {count}, 4]: x1, y1, x2, y2 in fractions.",
            f"On the Jetson: `{COMMAND} INPUT OUTPUT`.",
            "detectNet resizes to the nearest pixel, which costs boxes: give it frames of the input's size.",
        ),
        background="BACKGROUND",
    )
