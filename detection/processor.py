"""What this machine's processor is and can do. Linux says; elsewhere nothing is known, and the safe choice is made."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
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
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
INT8 = {"avx_vnni", "avx512_vnni", "amx_int8"}  # of x86: on Arm OpenVINO has no int8 kernels of its own


@functools.cache
def processor() -> tuple[str, tuple[str, ...]]:
    """Its name, and those of `TELLING` that it has."""
    name, flags = platform.processor() or platform.machine(), set()
    if CPUINFO.exists():
        rows = [line.partition(":") for line in CPUINFO.read_text(errors="replace").splitlines()]
        values = {key.strip().lower(): value.strip() for key, _, value in rows}
        name = values.get("model name") or values.get("model") or name
        flags = set(values.get("flags", values.get("features", "")).split())
    return name, tuple(flag for flag in TELLING if flag in flags)


def multiplies_bfloat16() -> bool:
    """Whether bfloat16 numbers are multiplied by instructions of their own, not as float32 with conversions."""
    return not BFLOAT16.isdisjoint(processor()[1])


def multiplies_int8() -> bool:
    """Whether bytes are multiplied and summed by one instruction (VNNI, AMX) that OpenVINO uses."""
    return not INT8.isdisjoint(processor()[1])
