"""Mutated files against the readers of files: each is read or refused in one line, soon, within little memory, and without
opening anything outside its own folder.

    python tests/fuzz.py fuzz_of_weights --files 20000 --seed 1              # `make fuzz` takes all modules fuzz_of_*
    python tests/fuzz.py fuzz_of_weights --only tfjs:1:417 --keep /tmp/case  # one file again, kept, with its traceback

A module of targets has `TARGETS`, whose names no other has. A file depends on the target's name, the seed and its number
alone, so what was found is made again by these. Children read the files, one after the other: a hang or a crash ends the
child, not the run.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script it has its own folder there alone

from detection.errors import MobileSSDError, printable

TESTS = Path(__file__).resolve().parent
SLOW = 10.0  # seconds of processor time that one file may take
ENDLESS = 30.0  # seconds of processor time after which a child is ended
HANG = 120.0  # seconds on the clock: a busy machine may give a child a tenth of a processor
LARGE = 1 << 30  # bytes of memory that one file may take
LONGEST = 500  # characters of an error
# What reading a file has no need of.
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")


@dataclass(frozen=True)
class Target:
    """A reader and the files that it is given.

    write: writes a good file, and what lies beside it, into an empty folder -> its path, or that of the folder; done once
    a run for all targets that have it. damage: changes a copy of them in place; it is given the path of the copy. read:
    raises MobileSSDError for a bad file; whatever it opens lies in the file's folder, the cache or the installation.
    """

    name: str
    write: Callable[[Path], Path]
    damage: Callable[[random.Random, Path], None]
    read: Callable[[Path], Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a file. kind: "read", "refused", or what is wrong with the reader: "traceback", "long", "slow",
    "memory", "opened", "died", "left" (not tried)."""

    case: str
    kind: str
    detail: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0

    @property
    def fine(self) -> bool:
        return self.kind in ("read", "refused")


def run(module: str, files: int, seed: int, keep: Path | None = None, deaths: float = math.inf) -> list[Outcome]:
    """`files` files, dealt out evenly to the targets of a module. keep: a folder for those that were found out. deaths:
    children that may die before the rest is left out; what hangs may do so in every tenth file."""
    names = [target.name for target in _targets(module)]
    cases = [f"{names[i % len(names)]}:{seed}:{i // len(names)}" for i in range(files)]
    return _run(module, sorted(cases, key=lambda case: names.index(case.split(":")[0])), keep, deaths)


def _run(module: str, cases: list[str], keep: Path | None, deaths: float = math.inf) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        while len(outcomes) < len(cases):
            if sum(one.kind == "died" for one in outcomes) >= deaths:
                return [
                    *outcomes,
                    Outcome(cases[len(outcomes)], "left", f"out, with {len(cases) - len(outcomes) - 1} more"),
                ]
            left = cases[len(outcomes) :]
            Path(scratch, "cases").write_text("\n".join(left), encoding="utf-8")
            errors = Path(scratch, "stderr")
            command = [sys.executable, __file__, module, "--child", scratch, *(["--keep", str(keep)] if keep else [])]
            with open(errors, "wb") as stderr:
                child = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, cwd=TESTS.parent, check=False)
            found = [Outcome(**json.loads(line)) for line in child.stdout.decode().splitlines()]
            outcomes += found
            if len(found) < len(left):
                said = errors.read_text(errors="replace")[-2000:]
                if not Path(scratch, "now").exists() or Path(scratch, "now").read_text() != left[len(found)]:
                    raise RuntimeError(f"{left[len(found)]} cannot be made: {said}")
                outcomes.append(Outcome(left[len(found)], "died", f"exit code {child.returncode}: {said}"))
                if keep:
                    shutil.copytree(Path(scratch, "case"), keep / left[len(found)].replace(":", "-"), symlinks=True)
    return outcomes


def _make(target: Target, case: str, good: Path, folder: Path, targets: Iterable[Target]) -> Path:
    """The file of a case in `folder`, which is made. good: a folder for the good files of all `targets`; those that write
    the same share them."""
    name = next(one.name for one in targets if one.write is target.write)
    note = good / f"{name}.path"
    if not note.exists():
        (good / name).mkdir()
        note.write_text(str(target.write(good / name).relative_to(good / name)))
    shutil.copytree(good / name, folder)
    path = folder / note.read_text()
    target.damage(random.Random(case), path)
    return path


def _targets(module: str) -> tuple[Target, ...]:
    return importlib.import_module(module).TARGETS


def _child(module: str, scratch: Path, keep: Path | None) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries that print
    home, folder, good = scratch / "home", scratch / "case", scratch / "good"
    good.mkdir(exist_ok=True)
    os.environ["MOBILESSD_HOME"] = str(home)
    tempfile.tempdir = str(home)
    opened: list[str] = []
    watch = _watch(opened, folder, home)
    targets = {target.name: target for target in _targets(module)}
    for case in (scratch / "cases").read_text(encoding="utf-8").split():
        faulthandler.dump_traceback_later(HANG, exit=True)
        for made in (folder, home):
            shutil.rmtree(made, ignore_errors=True)
        home.mkdir()
        target = targets[case.split(":")[0]]
        path = _make(target, case, good, folder, targets.values())
        (scratch / "now").write_text(case)
        opened.clear()
        outcome = _read(case, target, path, watch)
        if outcome.fine and opened:
            outcome = Outcome(case, "opened", ", ".join(opened))
        if keep and not outcome.fine:
            shutil.copytree(folder, keep / case.replace(":", "-"), symlinks=True, dirs_exist_ok=True)
        print(json.dumps(asdict(outcome)), file=out, flush=True)


def _read(case: str, target: Target, path: Path, watch: Callable[[], contextlib.AbstractContextManager]) -> Outcome:
    faulthandler.dump_traceback_later(HANG, exit=True)
    faulthandler.register(signal.SIGPROF, chain=True)  # says where, and then ends the process
    signal.setitimer(signal.ITIMER_PROF, ENDLESS)
    before, began, kind, detail = _resident(), time.process_time(), "read", ""
    _limit(before + 3 * LARGE)
    try:
        with watch(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning is no error
            target.read(path)
    except MobileSSDError as error:
        kind, detail = "refused", str(error)
        if len(detail) > LONGEST or printable(detail) != detail:
            kind = "long"
    except Exception:
        kind, detail = "traceback", traceback.format_exc()[-2000:]
    faulthandler.dump_traceback_later(HANG, exit=True)  # for what comes behind it
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, megabytes = time.process_time() - began, (_peak() - before) / 1e6
    if kind in ("read", "refused"):
        kind = "slow" if seconds > SLOW else "memory" if megabytes > LARGE / 1e6 else kind
    return Outcome(case, kind, detail, round(seconds, 3), round(megabytes, 1))


def _watch(opened: list[str], folder: Path, home: Path) -> Callable[[], contextlib.AbstractContextManager]:
    """A context in which each file that Python opens outside, and each forbidden event, is noted. What native libraries
    open is not seen."""
    system = ("/proc", "/sys/devices", "/etc/os-release", os.devnull)  # what libraries ask when they are imported
    places = (folder, home, TESTS.parent, sys.prefix, sys.base_prefix, *sys.path, *system)
    allowed = tuple(os.path.realpath(place) for place in places if str(place))
    active = False

    def hook(event: str, arguments: tuple) -> None:
        if not active:
            return
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not any(path == place or path.startswith(place + os.sep) for place in allowed):
                opened.append(path)
        elif event in FORBIDDEN:
            opened.append(f"{event} {arguments[:1]}")

    sys.addaudithook(hook)

    @contextlib.contextmanager
    def watching() -> Iterator[None]:
        nonlocal active
        active = True
        try:
            yield
        finally:
            active = False

    return watching


def _resident() -> int:
    """Bytes of memory now; from here on `_peak` counts anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS:")


def _peak() -> int:
    return _status("VmHWM:")


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux: the largest ever
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


def _limit(least: int) -> None:
    """So much may be asked for, and no more: the machine belongs to others too."""
    size = _status("VmData:") if Path("/proc/self/status").exists() else 0
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (size + least, resource.RLIM_INFINITY))


def report(outcomes: list[Outcome]) -> str:
    """A line a target, and one for each file that was found out."""
    lines = [
        f"{'target':<24} {'files':>6} {'read':>6} {'refused':>7} {'found':>6} {'in all':>8} {'slowest':>8} {'largest':>8}"
    ]
    by_name: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_name.setdefault(outcome.case.split(":")[0], []).append(outcome)
    for name, own in (by_name | {"all": outcomes}).items():
        kinds = [outcome.kind for outcome in own]
        lines.append(
            f"{name:<24} {len(own):>6} {kinds.count('read'):>6} {kinds.count('refused'):>7} "
            f"{sum(not o.fine for o in own):>6} {sum(o.seconds for o in own):>6.1f} s {max(o.seconds for o in own):>6.2f} s "
            f"{max(o.megabytes for o in own):>5.0f} MB"
        )
    return "\n".join([*lines, *(f"{o.case}: {o.kind}: {o.detail}" for o in outcomes if not o.fine)])


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutated files against the readers of files.")
    parser.add_argument("modules", nargs="+", help="modules of targets beside this file: fuzz_of_weights")
    parser.add_argument("--files", type=int, default=1000, help="in all, dealt out evenly to the modules")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="NAME:SEED:NUMBER", help="these files again")
    parser.add_argument("--keep", type=Path, help="a folder for the files that were found out")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.modules[0], options.child, options.keep)
        os._exit(0)  # what hostile files have left in the libraries is not taken apart
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcomes: list[Outcome] = []
    for module in options.modules:
        if options.only:
            names = [target.name for target in _targets(module)]
            outcomes += _run(module, [case for case in options.only if case.split(":")[0] in names], options.keep)
        else:
            outcomes += run(module, options.files // len(options.modules), options.seed, options.keep)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(report(outcomes))
    print(f"{spent.ru_utime + spent.ru_stime - began.ru_utime - began.ru_stime:.0f} s of processor time")
    return int(not all(outcome.fine for outcome in outcomes))


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main())
