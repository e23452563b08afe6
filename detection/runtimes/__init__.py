"""The runtimes. One small protocol, and the choice of the fastest one that is installed."""

from __future__ import annotations

import importlib.util
import platform

from detection.errors import MissingPackageError, MobileSSDError
from detection.runtimes.base import Runtime
from detection.weights.resolve import Weights

DEVICES = ("auto", "cpu", "cuda", "mps")
PACKAGES = {
    "torch": "torch",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "litert": "ai-edge-litert",
    "torch-compiled": "torch",
}
RUNTIMES = ("auto", *PACKAGES)
MODULES = {"litert": "ai_edge_litert", "torch-compiled": "torch"}  # where the module's name is not the runtime's

# The files of mobilessd export that each reads as they are.
READS: dict[str, tuple[str, ...]] = {"torch": (), "openvino": (".xml", ".onnx"), "onnxruntime": (".onnx",)}
READS |= {"litert": (".tflite",), "torch-compiled": ()}
ONLY = {".xml": "openvino", ".tflite": "litert"}

# The fastest first, float32 and int8 alike, batch 1: measured on x86 (AVX2, AVX-512, AMX); on ARM, OpenVINO has no int8
# kernels of its own.
FASTEST = {"x86": ("openvino", "onnxruntime"), "arm": ("onnxruntime", "openvino")}


def open_runtime(
    weights: Weights, runtime: str = "auto", device: str = "auto", precision: str = "auto", threads: int | None = None
) -> Runtime:
    """The runtime asked for. auto: torch on a GPU; on a CPU the fastest that is installed for this processor and file.

    precision: auto (what the file holds: float32, or int8), float32, bfloat16, float16 or int8. threads: None for as
    many as there are cores. Raises MobileSSDError, one line, for what is not installed or does not go together.
    """
    if runtime not in RUNTIMES:
        raise MobileSSDError(f"unknown runtime {runtime!r}; there are {', '.join(RUNTIMES)}")
    kind = device.partition(":")[0]
    if kind not in DEVICES:
        raise MobileSSDError(f"unknown device {device!r}; there are {', '.join(DEVICES)}")
    if runtime == "auto":
        runtime = choose(weights, device)
        if runtime == "torch" and not installed("torch"):
            raise MissingPackageError(
                f"{weights.source}: weights need torch to become a network (pip install torch torchvision); "
                "files that mobilessd export wrote run without"
            )
    if not runtime_installed(runtime):
        raise MissingPackageError(f"runtime {runtime} is not installed: pip install {PACKAGES[runtime]}")
    if not runtime.startswith("torch") and kind not in ("auto", "cpu"):
        raise MobileSSDError(f"runtime {runtime} runs on the CPU here, not on {device}; use --runtime torch")
    if weights.exported and weights.path.suffix not in READS[runtime]:
        raise MobileSSDError(
            f"{weights.path}: runtime {runtime} does not run {weights.path.suffix} files; leave --runtime out"
        )
    _check_precision(weights, precision)
    if runtime == "openvino":
        from detection.runtimes.openvino import OpenVINORuntime

        return OpenVINORuntime(weights, precision, threads)
    if runtime == "onnxruntime":
        from detection.runtimes.onnxruntime import ONNXRuntime

        return ONNXRuntime(weights, precision, threads)
    if runtime == "litert":
        from detection.runtimes.litert import open_litert

        return open_litert(weights, precision, threads)
    from detection.runtimes.torch import TorchRuntime

    return TorchRuntime(weights, device, precision, threads, compiled=runtime == "torch-compiled")


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def runtime_installed(runtime: str) -> bool:
    """Whether a runtime's library is installed."""
    return installed(MODULES.get(runtime, runtime))


def choose(weights: Weights, device: str = "auto") -> str:
    """The runtime that `auto` means for these weights on this machine. The last one named is asked to explain, in its
    own words, what is missing, where none is installed."""
    if weights.path.suffix in ONLY:
        return ONLY[weights.path.suffix]
    if not weights.exported:
        if device.startswith(("cuda", "mps")):
            return "torch"
        if device == "auto" and installed("torch") and _has_gpu():
            return "torch"
    order = FASTEST["arm" if platform.machine().lower() in ("aarch64", "arm64", "armv7l") else "x86"]
    for name in order:
        if runtime_installed(name) and _can_open(weights, name):
            return name
    return order[0] if weights.exported else "torch"


def _can_open(weights: Weights, runtime: str) -> bool:
    """A checkpoint has to be converted once, which needs torch, and the onnx package for onnxruntime; but for the one
    that ships."""
    if weights.ready is not None:
        return True
    if runtime == "onnxruntime":
        return installed("torch") and installed("onnx")
    return installed("torch") or _converted_before(weights)


def _converted_before(weights: Weights) -> bool:
    from detection.runtimes.openvino import cache_path

    return cache_path(weights).exists()


def _check_precision(weights: Weights, precision: str) -> None:
    if precision == "int8" and weights.card.precision != "int8":
        raise MobileSSDError(
            f"{weights.source}: holds {weights.card.precision} weights; make an int8 file with mobilessd quantize"
        )
    if weights.card.precision == "int8" and precision not in ("auto", "int8"):
        raise MobileSSDError(f"{weights.source}: an int8 file runs in int8, not in {precision}; leave --precision out")


def _has_gpu() -> bool:
    """Asked of the system first: importing torch to learn that there is no GPU would cost every start two seconds."""
    from pathlib import Path

    if not (Path("/proc/driver/nvidia").exists() or Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()):
        return False
    import torch

    return torch.cuda.is_available()
