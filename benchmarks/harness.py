"""Candidates side by side: a process for each, taken in turns, measured from the outside. Standard library only.

Runtimes in one process disturb each other's thread pools, and a machine's speed drifts: so every candidate is a process
of its own, and the rounds are interleaved (A B C, then B C A, ...), so that drift meets all of them alike.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.memory import Watch

ROOT = Path(__file__).resolve().parents[1]
CANDIDATES = ROOT / "benchmarks" / "candidates"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Candidate:
    """Something to measure. command: its arguments, the interpreter left out; OUT in it is a fresh file for its JSON.
    warm_up: whether it takes part in the uncounted round. watch: whether the memory of all its processes is watched."""

    name: str
    command: tuple[str, ...]
    warm_up: bool = True
    watch: bool = False


@dataclass(frozen=True)
class Run:
    """One run. wall: seconds from the start of the process to its end. cpu: seconds of all its threads, which other
    work on the machine changes less. peak: MiB of memory at most, of its one largest process; memory: MiB of all its
    processes together every half second, where `Candidate.watch` and the system allow. said: the JSON that it wrote."""

    wall: float
    cpu: float
    peak: float
    said: dict
    memory: list[float] = field(default_factory=list)


@dataclass
class Series:
    """All counted runs of a candidate, and its warm-up."""

    candidate: Candidate
    warm_up: Run | None = None
    runs: list[Run] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(run.wall for run in self.runs)

    @property
    def best(self) -> float:
        return min(run.wall for run in self.runs)

    @property
    def cpu(self) -> float:
        return statistics.median(run.cpu for run in self.runs)

    @property
    def peak(self) -> float:
        return max(run.peak for run in self.runs)


def side_by_side(candidates: Sequence[Candidate], rounds: int, threads: int, warm_up: bool = True) -> list[Series]:
    """Runs every candidate `rounds` times, in turns, on at most `threads` cores; one uncounted round first.

    Says on stderr what runs. A candidate that fails ends the whole with its own message.
    """
    series = [Series(candidate) for candidate in candidates]
    for number in range(-1 if warm_up else 0, rounds):
        shift = number % len(series)
        for one in series[shift:] + series[:shift]:
            if number < 0 and not one.candidate.warm_up:
                continue
            run = run_once(one.candidate, threads)
            what = "warm-up" if number < 0 else f"round {number + 1}/{rounds}"
            print(f"{what}: {one.candidate.name}: {run.wall:.2f} s, load {load()}", file=sys.stderr, flush=True)
            if number < 0:
                one.warm_up = run
            else:
                one.runs.append(run)
    return series


def run_once(candidate: Candidate, threads: int) -> Run:
    """One process from start to end, its output kept from the screen. SystemExit with its output's end if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, *(str(answer) if word == "OUT" else word for word in candidate.command)]
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
        with open(Path(folder) / "said.txt", "w+") as said:
            start = time.perf_counter()
            process = subprocess.Popen(
                command, stdout=said, stderr=said, env=environment, cwd=ROOT, preexec_fn=_pin(threads)
            )
            watch = Watch(process.pid).start() if candidate.watch else None
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            memory = watch.stop() if watch else []
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            text = said.read()
        if process.returncode or not answer.exists():
            raise SystemExit(f"error: {candidate.name} failed: {shlex.join(command)}\n{text[-3000:]}")
        peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        return Run(wall, used.ru_utime + used.ru_stime, peak, json.loads(answer.read_text()), memory)


def machine(threads: int) -> dict:
    """What the figures hold for: processor, instruction sets that matter here, cores, load, versions of libraries."""
    from importlib import metadata

    name, flags = platform.processor() or platform.machine(), set()
    if Path("/proc/cpuinfo").exists():
        rows = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        values = {key.strip(): value.strip() for key, _, value in rows}
        name = values.get("model name", name)
        flags = set(values.get("flags", values.get("Features", "")).split())
    wanted = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "i8mm")
    versions = {}
    for package in ("torch", "torchvision", "openvino", "ai-edge-litert", "pycocotools", "opencv-python", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": name,
        "instructions": [flag for flag in wanted if flag in flags],
        "cores": os.cpu_count(),
        "cores_used": threads if hasattr(os, "sched_setaffinity") else None,
        "threads": threads,
        "load_before": load(),
        "python": platform.python_version(),
        "packages": versions,
    }


def describe(machine_said: dict) -> str:
    """`machine` in three lines, with a warning where the machine was not quiet."""
    m = machine_said
    pinned = f", every process pinned to {m['cores_used']}" if m["cores_used"] else ""
    lines = [
        f"{m['processor']} ({' '.join(m['instructions']) or 'no wide instructions known'}), {m['cores']} cores{pinned}",
        f"{m['threads']} threads each; Python {m['python']}, "
        + ", ".join(f"{package} {version}" for package, version in m["packages"].items()),
    ]
    if m["load_before"] is not None and m["load_before"] > 0.3:
        lines.append(f"NOT A QUIET MACHINE: load {m['load_before']} before the start; compare ratios, with care")
    return "\n".join(lines)


def load() -> float | None:
    """The load average of the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words as a table: the first column to the left, numbers to the right; the first row is the head."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join(w.ljust(n) if k == 0 else w.rjust(n) for k, (w, n) in enumerate(zip(row, widths))) for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _pin(threads: int):
    """A function for the child: it and its threads stay on `threads` cores, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, cores)
