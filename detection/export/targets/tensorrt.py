"""TensorRT in int8: the core graph with QuantizeLinear and DequantizeLinear in it, as TensorRT takes them: zero points 0, int8
activations, ranges of the layers' inputs; what enters the graph and leaves it stays float32."""

from __future__ import annotations

from dataclasses import replace

from detection.export.calibration import PLANS
from detection.export.int8 import quantize_symmetric
from detection.export.targets.base import Job, Written
from detection.export.targets.core import input_line, write_parts

PLAN = PLANS[3]  # box heads and first layer float32: symmetric ranges waste half of what is behind a ReLU6
SCRIPT = """#!/bin/sh
# model.onnx -> model.engine, on the machine that is to run it
cd "$(dirname "$0")"
exec trtexec --onnx=model.onnx --saveEngine=model.engine --int8 --fp16 "$@"
"""


def write(job: Job) -> Written:
    """model.onnx, anchors.npy, input.json, build.sh."""
    write_parts(job)
    model = job.folder / "model.onnx"
    images = job.calibration_images()
    recipe = {"tool": "onnxruntime", "images": len(images), "float32": PLAN.name, "symmetric": True}
    card = replace(job.card("core"), precision="int8", recipe=job.source.card.recipe | {"quantization": recipe})
    quantize_symmetric(model, model, card, images, PLAN)
    job.put("build.sh", SCRIPT)
    return Written(
        "model.onnx",
        (
            f"Opset {job.opset}, int8 (QDQ, symmetric; {PLAN.name}), ranges of {len(images)} images.",
            f"{input_line(job)} Outputs `encodings` and `logits`, float32: see input.json and anchors.npy.",
            "`sh build.sh` has TensorRT's trtexec make model.engine of it.",
        ),
    )
