"""Floor 4: the runtimes. One small protocol, and the choice of the fastest one that is installed."""

from __future__ import annotations

import importlib.util
from typing import Protocol

import numpy as np

from detection.core.errors import MissingPackageError, MobileSSDError
from detection.weights.source import Weights

DEVICES = ("auto", "cpu", "cuda", "mps")
RUNTIMES = ("auto", "torch", "openvino")
PACKAGES = {"torch": "torch", "openvino": "openvino"}


class Runtime(Protocol):
    """Runs a network: uint8 RGB pictures [N, h, w, 3] at the input size -> float32 encodings [N, A, 4] and logits
    [N, A, K]. Safe to call from several threads."""

    name: str
    device: str
    precision: str
    threads: int

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


def open_runtime(
    weights: Weights, runtime: str = "auto", device: str = "auto", precision: str = "auto", threads: int | None = None
) -> Runtime:
    """The runtime asked for. auto: OpenVINO on a CPU where it is installed, else torch; torch on a GPU.

    precision: auto (float32), float32, bfloat16 or float16. threads: None for as many as there are cores.
    Raises MobileSSDError, one line, for what is not installed or does not go together.
    """
    if runtime not in RUNTIMES:
        raise MobileSSDError(f"unknown runtime {runtime!r}; there are {', '.join(RUNTIMES)}")
    if device not in DEVICES:
        raise MobileSSDError(f"unknown device {device!r}; there are {', '.join(DEVICES)}")
    if runtime == "auto":
        runtime = _choose(weights, device)
    if not installed(PACKAGES[runtime]):
        raise MissingPackageError(f"runtime {runtime} is not installed: pip install {PACKAGES[runtime]}")
    if runtime == "openvino":
        if device not in ("auto", "cpu"):
            raise MobileSSDError(f"runtime openvino runs on the CPU here, not on {device}; use --runtime torch")
        from detection.runtimes.openvino import OpenVINORuntime

        return OpenVINORuntime(weights, precision, threads)
    from detection.runtimes.torch import TorchRuntime

    return TorchRuntime(weights, device, precision, threads)


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def _choose(weights: Weights, device: str) -> str:
    if weights.exported:
        return "openvino"
    if device in ("cuda", "mps"):
        return "torch"
    if device == "auto" and installed("torch") and _has_gpu():
        return "torch"
    return "openvino" if installed("openvino") else "torch"


def _has_gpu() -> bool:
    """Asked of the system first: importing torch to learn that there is no GPU would cost two seconds of every start."""
    from pathlib import Path

    if not (Path("/proc/driver/nvidia").exists() or Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()):
        return False
    import torch

    return torch.cuda.is_available()
