"""Rockchip's RKNN: the core graph, and the script that its toolkit (rknn-toolkit2) converts it with."""

from __future__ import annotations

from detection.export.targets.base import Job, Written
from detection.export.targets.core import write_parts
from detection.export.targets.script import write_script


def write(job: Job) -> Written:
    """model.onnx, anchors.npy, input.json, convert.py."""
    write_parts(job)
    write_script(job.folder, "convert.py", "rknn")
    height, width = job.spec.input.size
    return Written(
        "model.onnx",
        (
            "`python convert.py rk3588 IMAGES` makes model.rknn of it, where rknn-toolkit2 is installed: int8, its ranges",
            "measured on the images of that folder, 10 or more, best 300; without IMAGES float16.",
            f"model.rknn takes uint8 RGB [1, {height}, {width}, 3], gives `encodings` and `logits`: see input.json.",
        ),
    )
