"""OpenCV's DNN module, 4 and 5: the core graph, and a script that needs numpy and OpenCV alone."""

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
            f"Input `images`: cv2.dnn.blobFromImage(image, 1 / 127.5, ({width}, {height}), (127.5,) * 3, swapRB=True) of",
            "a BGR image. Outputs `encodings` and `logits`: detect.py decodes them, with anchors.npy and input.json.",
            "`pip install numpy opencv-python`, then `python detect.py image.png`.",
        ),
    )
