"""Programs side by side: a process for each, taken in turns, measured from the outside.

Runtimes in one process disturb each other's thread pools, and a machine's speed drifts: so every program is a process
of its own, and the rounds are interleaved (A B C, then B C A, ...), so that drift meets all of them alike.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from detection.benchmark.machine import load
from detection.benchmark.memory import MemoryWatch
from detection.errors import MobileSSDError

ROOT = Path(__file__).resolve().parents[2]  # where the package lies: a checkout, or where it is installed
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Program:
    """Something to measure. command: its arguments, the interpreter left out; OUT in it is a fresh file for its JSON.
    warm_up: whether it takes part in the uncounted round. watch: whether the memory of all its processes is watched.
    pin: whether it is kept on `threads` cores, where the system allows. (The first ones, and two of these may share one
    core's arithmetic units: right for programs that are compared with each other, wrong for figures by themselves.)"""

    name: str
    command: tuple[str, ...]
    threads: int
    warm_up: bool = True
    watch: bool = False
    pin: bool = False


@dataclass(frozen=True)
class Run:
    """One run. started: when, as `time.time`. wall: seconds from the start of the process to its end. cpu: seconds of
    all its threads, which other work on the machine changes less. peak: MiB of memory at most, of its one largest
    process (cpu, peak: nan on Windows). memory: MiB of all its processes together every half second, where
    `Program.watch` and the system allow. answer: the JSON that it wrote."""

    started: float
    wall: float
    cpu: float
    peak: float
    answer: dict[str, Any]
    memory: list[float] = field(default_factory=list)


@dataclass
class Series:
    """All counted runs of a program, and its warm-up. error: why it was given up."""

    program: Program
    warm_up: Run | None = None
    runs: list[Run] = field(default_factory=list)
    error: str = ""

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


class ProgramFailed(MobileSSDError):
    """A program ended with an error, without an answer, or with {"error": TEXT} as its answer. reason: one line."""

    def __init__(self, program: Program, output: str, reason: str) -> None:
        self.reason = reason if len(reason) <= 200 else reason[:199] + "…"
        super().__init__()
        # Of a program of ours, whose words are wanted as they are.
        self.args = (f"{program.name} failed: {reason}\n{shlex.join(program.command)}\n{output[-3000:]}".rstrip(),)


def side_by_side(
    programs: Sequence[Program],
    rounds: int,
    warm_up: bool = True,
    go_on: bool = False,
    tell: Callable[[str, Series], None] | None = None,
) -> list[Series]:
    """Runs every program `rounds` times, in turns; one uncounted round first. Returns one Series a program.

    go_on: a program that fails keeps its error and is not tried again; otherwise ProgramFailed ends the whole.
    tell: is given "warm-up" or "round 1/3" and the Series after each run; by default a line on stderr says it.
    """
    series = [Series(program) for program in programs]
    for number in range(-1 if warm_up else 0, rounds):
        shift = number % len(series)
        for one in series[shift:] + series[:shift]:
            if one.error or (number < 0 and not one.program.warm_up):
                continue
            try:
                run = run_once(one.program)
            except ProgramFailed as failed:
                if not go_on:
                    raise
                one.error = failed.reason
            else:
                if number < 0:
                    one.warm_up = run
                else:
                    one.runs.append(run)
            (tell or _tell)("warm-up" if number < 0 else f"round {number + 1}/{rounds}", one)
    return series


def run_once(program: Program) -> Run:
    """One process from start to end, its output kept from the screen. ProgramFailed with its output if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, *(str(answer) if word == "OUT" else word for word in program.command)]
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(program.threads))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with open(Path(folder) / "output.txt", "w+", encoding="utf-8", errors="replace") as output:
            started, start = time.time(), time.perf_counter()
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env=environment,
                preexec_fn=_pin(program) if program.pin else None,
            )
            watch = MemoryWatch(process.pid).start() if program.watch else None
            code, cpu, peak = _wait(process)
            wall = time.perf_counter() - start
            memory = watch.stop() if watch else []
            output.seek(0)
            text = output.read()
        if code or not answer.exists():
            raise ProgramFailed(program, text, f"ended with {code}: {(text.strip().splitlines() or ['no output'])[-1]}")
        found = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in found:
            raise ProgramFailed(program, text, found["error"])
        return Run(started, wall, cpu, peak, found, memory)


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of words as lines: the first `left` columns to the left, the others to the right. The first row is the head."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join(w.ljust(n) if k < left else w.rjust(n) for k, (w, n) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def run_script(main: Callable[[], int]) -> NoReturn:
    """Runs a script of benchmarks/ and ends the process: an error for people becomes one message, without traceback."""
    try:
        code = main()
    except MobileSSDError as error:
        sys.exit(f"error: {error}")
    sys.exit(code)


def _tell(what: str, series: Series) -> None:
    run = series.runs[-1] if series.runs else series.warm_up
    said = f"{run.wall:.2f} s, load {load()}" if run and not series.error else series.error
    print(f"{what}: {series.program.name}: {said}", file=sys.stderr, flush=True)


def _wait(process: subprocess.Popen) -> tuple[int, float, float]:
    """(exit code, seconds of processor time, MiB of memory at most) of a process, once it has ended."""
    if not hasattr(os, "wait4"):  # Windows
        return process.wait(), math.nan, math.nan
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return process.returncode, used.ru_utime + used.ru_stime, peak


def _pin(program: Program) -> Callable[[], None] | None:
    """A function for the child: it and its threads stay on `threads` cores, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))[: program.threads]
    return lambda: os.sched_setaffinity(0, cores)
