"""Opens the runtime that is asked for, or the fastest one that is installed."""

from __future__ import annotations

import platform
from pathlib import Path

from detection.errors import MissingPackageError, MobileSSDError, install_line, installed, quoted
from detection.limits import MOST_THREADS
from detection.processor import multiplies_int8
from detection.runtimes.base import Runtime
from detection.runtimes.interfaces import SystemFile, interface_of
from detection.runtimes.table import DEVICES, FASTEST, RUNTIMES, RuntimeInfo, info_of, readers
from detection.weights.formats import ONNX
from detection.weights.onnx_check import check_onnx
from detection.weights.records import find_record
from detection.weights.resolve import Weights


def open_runtime(
    weights: Weights, runtime: str = "auto", device: str = "auto", precision: str = "auto", threads: int | None = None
) -> Runtime:
    """The runtime asked for. auto: torch on a GPU; on a CPU the fastest that is installed for this processor and file.

    precision: auto (what the file holds: float32, or int8), float32, bfloat16, float16 or int8. threads: None for as
    many as there are cores. Raises MobileSSDError, one line, for what is not installed or does not go together.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise MobileSSDError(f"threads: {quoted(threads)} is not from 1 to {MOST_THREADS}")
    kind = device.partition(":")[0]
    if kind not in ("auto", *DEVICES):
        raise MobileSSDError(f"unknown device {device!r}; there are auto, {', '.join(DEVICES)}")
    row = info_of(choose(weights, device) if runtime == "auto" else runtime)
    if runtime == "auto" and row.name == "torch" and not row.installed:
        if weights.ready is not None:
            raise MissingPackageError(
                f"no runtime is installed: {install_line('runtime')}, or with [torch] for training too"
            )
        raise MissingPackageError(
            f"{weights.source}: needs torch to become a network: {install_line('torch')}; "
            "files that mobilessd export wrote run without"
        )
    row.check_installed()
    if kind not in ("auto", *row.devices):
        raise MobileSSDError(f"runtime {row.name} runs on the CPU here, not on {device}; use --runtime torch")
    if weights.exported and weights.format.name not in row.formats:
        raise MobileSSDError(
            f"{weights.path}: runtime {row.name} does not run {weights.format.ending} files; leave --runtime out"
        )
    _check_precision(weights, row, precision)
    interface = interface_of(weights)
    if weights.exported and weights.format == ONNX:
        check_onnx(weights.path, weights.card.input_size, interface.floats, interface.outputs)
    if weights.card.interface:
        return SystemFile(weights, row.name, threads)
    return row.load(row.opener)(weights, device, precision, threads)


def choose(weights: Weights, device: str = "auto") -> str:
    """The runtime that `auto` means for these weights on this machine. The last one named is asked to explain, in its
    own words, what is missing, where none is installed."""
    order: tuple[str, ...] = FASTEST["arm" if platform.machine().lower() in ("aarch64", "arm64", "armv7l") else "x86"]
    if weights.exported:
        usual = readers(weights.format.name)
        order = tuple(name for name in order if name in usual) or tuple(usual)
    elif device.startswith(("cuda", "mps")) or (device == "auto" and installed("torch") and _has_gpu()):
        return "torch"
    for name in order:
        if RUNTIMES[name].installed and _can_open(weights, RUNTIMES[name]):
            return name
    return order[0] if weights.exported else "torch"


def suits_int8(weights: Weights, runtime: str = "auto", device: str = "auto") -> bool:
    """Whether these weights are computed faster in int8: they ship in that form, the runtime would be OpenVINO on the CPU,
    and the processor multiplies bytes by instructions of its own. Not a file that was named by its path: that one is meant."""
    if (
        weights.int8 is None
        or find_record(weights.source) is None
        or device not in ("auto", "cpu")
        or not multiplies_int8()
    ):
        return False
    name = choose(weights, device) if runtime == "auto" else runtime
    return name == "openvino" and RUNTIMES[name].installed


def _can_open(weights: Weights, row: RuntimeInfo) -> bool:
    """A checkpoint has to be converted once, which takes other packages; but for the one that ships."""
    if weights.ready is not None or all(installed(module) for module in row.converters):
        return True
    return _converted_before(weights, row)


def _converted_before(weights: Weights, row: RuntimeInfo) -> bool:
    return row.cache is not None and row.load(row.cache)(weights).exists()


def _check_precision(weights: Weights, row: RuntimeInfo, precision: str) -> None:
    held = weights.card.precision
    if precision == "int8" and held != "int8":
        raise MobileSSDError(f"{weights.source}: holds {held} weights; make an int8 file with mobilessd quantize")
    if held == "int8" and precision not in ("auto", "int8"):
        raise MobileSSDError(f"{weights.source}: an int8 file runs in int8, not in {precision}; leave --precision out")
    if precision not in ("auto", *row.precisions):
        known = ", ".join(row.precisions)
        raise MobileSSDError(f"runtime {row.name} has no precision {precision!r}; there are auto, {known}")


def _has_gpu() -> bool:
    """Asked of the system first: importing torch to learn that there is no GPU would cost every start two seconds."""
    if not (Path("/proc/driver/nvidia").exists() or Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()):
        return False
    import torch

    return torch.cuda.is_available()
