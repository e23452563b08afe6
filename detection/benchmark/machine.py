"""What figures hold for: the processor, what it can do, how busy it is, and the versions of what computes."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from typing import Any

from detection.processor import processor

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
MOMENT = 0.5  # seconds


def machine(threads: int | None = None) -> dict[str, Any]:
    """Processor, instructions, cores, load, system, versions: plain data for JSON. threads: what each program gets."""
    name, instructions = processor()
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": name,
        "instructions": list(instructions),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": load(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def load() -> float | None:
    """Cores that are busy while this process sleeps for a moment; None where the system does not say. The load average would
    hold against a benchmark what itself has done in the last minute; it is taken where there is no /proc/stat."""
    try:
        before = _core_ticks()
        time.sleep(MOMENT)
        busy, all_ = (now - then for now, then in zip(_core_ticks(), before))
        return round(busy / max(all_, 1) * (os.cpu_count() or 1), 2)
    except OSError:
        return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _core_ticks() -> tuple[int, int]:
    """Ticks of all cores in which something ran, a neighbour on the same host too (steal), and all ticks."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, idle, waiting, *others = map(int, file.readline().split()[1:9])
    busy = user + nice + system + sum(others)
    return busy, busy + idle + waiting


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
