"""The runtimes, one row each. A new one is a file with a class that follows `base.Runtime`, and a row here.

Nothing heavy is imported for it: commands show the names in their help.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detection.errors import EXTRAS, MissingPackageError, MobileSSDError, install_line, installed

DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class RuntimeInfo:
    """A runtime.

    name: as in --runtime. package: as pip calls it. module: of that package; the runtime is installed where it is
    there. opener: "module:function" of this package, (weights, device, precision, threads) -> Runtime. formats: names
    (`weights.formats`) of the files that it runs as they are, and for the first of which it is the usual reader.
    devices, precisions: that it can have. converters: modules that turning a checkpoint into its own form takes. cache:
    "module:function" of this package, weights -> where that form lies once it was made. timed: benchmarks take it
    without being asked.
    """

    name: str
    package: str
    module: str
    opener: str
    formats: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ("float32",)
    converters: tuple[str, ...] = ("torch",)
    cache: str | None = None
    timed: bool = True

    @property
    def installed(self) -> bool:
        return installed(self.module)

    def check_installed(self) -> None:
        """Raises MissingPackageError, one line, where it is not."""
        if not self.installed:
            raise MissingPackageError(f"runtime {self.name} is not installed: {install_line(EXTRAS[self.module])}")

    def load(self, place: str) -> Callable[..., Any]:
        """What `opener` or `cache` names."""
        module, _, function = place.partition(":")
        return getattr(importlib.import_module(f"detection.runtimes.{module}"), function)


_FLOATS = ("float32", "bfloat16", "float16")
_ROWS = (
    RuntimeInfo("torch", "torch", "torch", "torch:TorchRuntime", devices=DEVICES, precisions=_FLOATS),
    RuntimeInfo(
        name="torch-compiled",
        package="torch",
        module="torch",
        opener="torch:compiled",
        devices=DEVICES,
        precisions=_FLOATS,
        timed=False,  # it compiles for a minute
    ),
    RuntimeInfo(
        name="openvino",
        package="openvino",
        module="openvino",
        opener="openvino:OpenVINORuntime",
        formats=("openvino", "onnx"),
        precisions=(*_FLOATS, "int8"),
        cache="openvino_model:cache_path",
    ),
    RuntimeInfo(
        name="onnxruntime",
        package="onnxruntime",
        module="onnxruntime",
        opener="onnxruntime:ONNXRuntime",
        formats=("onnx",),
        precisions=("float32", "int8"),
        converters=("torch", "onnx"),
        cache="onnxruntime:cache_path",
    ),
    RuntimeInfo(
        name="litert",
        package="ai-edge-litert",
        module="ai_edge_litert",
        opener="litert:open_litert",
        formats=("tflite",),
        precisions=("float32", "int8"),
    ),
)
RUNTIMES = {row.name: row for row in _ROWS}
NAMES = ("auto", *RUNTIMES)

# The fastest first, float32 and int8 alike, batch 1: measured on x86 (AVX2, AVX-512, AMX); on ARM, OpenVINO has no int8
# kernels of its own.
FASTEST = {"x86": ("openvino", "onnxruntime"), "arm": ("onnxruntime", "openvino")}


def info_of(name: str) -> RuntimeInfo:
    """The row of a name; raises MobileSSDError, one line, where there is none."""
    if name not in RUNTIMES:
        raise MobileSSDError(f"unknown runtime {name!r}; there are {', '.join(NAMES)}")
    return RUNTIMES[name]


def readers(format: str) -> list[str]:
    """The names of the runtimes that run files of a format as they are, the usual one first."""
    found = [row for row in _ROWS if format in row.formats]
    return [row.name for row in sorted(found, key=lambda row: row.formats.index(format))]
