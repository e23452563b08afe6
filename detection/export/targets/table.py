"""The systems that folders are exported for, one row each: a new one is a file with a function that writes it, and a row.

Nothing heavy is imported for it: commands show the names in their help.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A system that takes detectors.

    title: for messages. writer: "module:function" of this package, `base.Job` -> `base.Written`. needs: modules that
    writing and checking take. files: all that it may write, beside `COMMON`. takes: formats of exported files, int8 ones
    too, that it takes in the place of weights. options: those of `gpu` and `opset` that mean something to it.
    calibrates: it is int8, and its ranges are measured on --images. extra: of setup.py, that brings what it needs.
    """

    name: str
    title: str
    writer: str
    files: tuple[str, ...]
    needs: tuple[str, ...] = ("torch", "onnx", "onnxruntime")
    takes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    calibrates: bool = False
    extra: str = "export"

    def load(self) -> Callable[..., Any]:
        """What `writer` names."""
        module, _, function = self.writer.partition(":")
        return getattr(importlib.import_module(f"detection.export.targets.{module}"), function)


COMMON = ("README.md", "labels.txt", "image.png", "expected.png")
_CORE = ("model.onnx", "anchors.npy", "input.json")

_ROWS = (
    Target(
        "frigate",
        "Frigate",
        "frigate:write",
        ("model.xml", "model.bin", "model.onnx", "config.yml"),
        needs=("torch", "onnx", "onnxruntime", "openvino"),
        takes=("openvino", "onnx"),
        options=("gpu",),
    ),
    Target(
        "tflite-ssd",
        "MediaPipe, the TFLite Task Library, Frigate's detector cpu and Coral's tools",
        "tflite_ssd:write",
        ("model.tflite", "config.yml"),
        needs=("torch", "litert_torch", "ai_edge_litert"),
        takes=("tflite",),
    ),
    Target(
        "mediapipe",
        "MediaPipe's ObjectDetector",
        "mediapipe:write",
        ("model.tflite",),
        needs=("torch", "litert_torch", "ai_edge_litert"),
        takes=("tflite",),
    ),
    Target("jetson", "jetson-inference's detectNet", "jetson:write", ("model.onnx", "detect.sh"), options=("opset",)),
    Target("opencv", "OpenCV's DNN module", "opencv:write", (*_CORE, "detect.py"), options=("opset",)),
    Target("ncnn", "ncnn", "ncnn:write", (*_CORE, "detect.py"), options=("opset",)),
    Target("rknn", "Rockchip's RKNN", "rknn:write", (*_CORE, "convert.py"), options=("opset",)),
    Target(
        "tensorrt-onnx",
        "TensorRT in int8",
        "tensorrt:write",
        (*_CORE, "build.sh"),
        options=("opset",),
        calibrates=True,
    ),
    Target(
        "hailo",
        "Hailo's Dataflow Compiler",
        "hailo:write",
        (*_CORE, "hailo.json", "model.alls", "nms_config.json", "compile.py"),
        options=("opset",),
    ),
    Target(
        "coreml",
        "Core ML",
        "coreml:write",
        (*_CORE, "model.mlmodel"),
        needs=("torch", "onnx", "onnxruntime", "coremltools"),
        extra="export,coreml",
    ),
    Target(
        "train-ssd",
        "pytorch-ssd's train_ssd.py",
        "train_ssd:write",
        ("mb1-ssd.pth", "mb1-ssd-lite.pth", "mb2-ssd-lite.pth", "vgg16-ssd.pth"),
        needs=("torch",),
    ),
    Target("core-onnx", "readers of plain ONNX", "core:write", _CORE, options=("opset",)),
)
TARGETS = {row.name: row for row in _ROWS}
PARTS = tuple(sorted({*COMMON, *(name for row in _ROWS for name in row.files)}))
