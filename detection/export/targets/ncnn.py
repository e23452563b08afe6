"""ncnn: the core graph, from which its own converter (pnnx) makes model.ncnn.param and model.ncnn.bin with the blobs in0, out0
(encodings) and out1 (logits); and a script that runs them."""

from __future__ import annotations

from detection.export.targets.base import Job, Written
from detection.export.targets.core import write_parts
from detection.export.targets.script import write_script


def write(job: Job) -> Written:
    """model.onnx, anchors.npy, input.json, detect.py."""
    write_parts(job)
    write_script(job.folder)
    height, width = job.spec.input.size
    return Written(
        "model.onnx",
        (
            f"Here: `pip install pnnx`, then `pnnx model.onnx inputshape=[1,3,{height},{width}]` writes model.ncnn.param",
            "and model.ncnn.bin. Blob in0: RGB, substract_mean_normalize({127.5, ...}, {1 / 127.5, ...});",
            "blobs out0 and out1: encodings and logits, which detect.py decodes with anchors.npy and input.json.",
            "`pip install numpy opencv-python ncnn`, then `python detect.py image.png` runs these two files.",
        ),
    )
