"""What figures hold for: the processor, what it can do, how busy it is, and the versions of what computes."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

# Instruction sets that decide how fast int8 and bfloat16 are.
TELLING = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
)
PACKAGES = (
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "pycocotools",
    "openvino",
    "onnxruntime",
    "ai-edge-litert",
    "torch",
    "torchvision",
)
BUSY = 0.3  # a load above this, for each core, makes figures doubtful


def machine(threads: int | None = None) -> dict[str, Any]:
    """Processor, instructions, cores, load, system, versions: plain data for JSON. threads: what each program gets."""
    name, flags = platform.processor() or platform.machine(), set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        rows = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        values = {key.strip().lower(): value.strip() for key, _, value in rows}
        name = values.get("model name") or values.get("model") or name
        flags = set(values.get("flags", values.get("features", "")).split())
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": name,
        "instructions": [flag for flag in TELLING if flag in flags],
        "cores": os.cpu_count(),
        "threads": threads,
        "load": load(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def load() -> float | None:
    """The load average of the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def describe(said: dict[str, Any]) -> list[str]:
    """`machine` in words, with a warning where the machine is busy."""
    able = " ".join(said["instructions"])
    threads = f", {said['threads']} threads each" if said["threads"] else ""
    lines = [
        f"{said['processor']} ({able or said['system']}), {said['cores']} cores{threads}",
        f"Python {said['python']}, " + ", ".join(f"{name} {version}" for name, version in said["packages"].items()),
    ]
    if said["load"] is not None and said["load"] > BUSY * (said["cores"] or 1):
        lines.append(f"NOT A QUIET MACHINE: load {said['load']} before the start; trust ratios only, with care")
    return lines
