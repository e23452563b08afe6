"""What a redesign must not change: results to the bit, COCO numbers, imported weights, resumed training, exports, start-up.

    PYTHONPATH=OLD python benchmarks/goldens.py record --output base.json      what the tree on PYTHONPATH does
    PYTHONPATH=NEW python benchmarks/goldens.py compare base.json              one line per difference, exit code 1
    PYTHONPATH=NEW python benchmarks/goldens.py compare base.json --only detections,importers
    PYTHONPATH=NEW python benchmarks/goldens.py startup --base OLD --runs 15   both trees in turns, in one run

Only what outlives a move of modules is used: the command line, `Detector` and `load`. Hashes hold for one processor and
one set of library versions: `compare` says where they differ from those of the recording. Help texts are compared last
and cost no exit code, because words may improve. Needs the images and published weights of ../shared (or
MOBILESSD_SHARED), and takes about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from golden.sections import SECTIONS, stopped_training
from golden.tools import DATA, PHOTO, SHARED, TREE, Found, environment

TOLERANCE = 1e-6  # of numbers; everything else must be equal
RENAMED = (
    ("picture", "image"),
    ("localisation", "localization"),
)  # words of keys and reports that a redesign changes on purpose: old, new
PACKAGES = (
    "numpy",
    "opencv-python",
    "torch",
    "torchvision",
    "openvino",
    "onnxruntime",
    "ai-edge-litert",
    "pycocotools",
)


def take(names: list[str], recording: Path, strict: bool) -> Found:
    """Runs sections, each in an empty folder with an empty cache: their findings by name. The run that `resume` goes on
    with lies beside the recording. strict, for recording: that run is made, and an error ends everything; else a section
    that fails is {"failed": why}."""
    stopped = recording.resolve().with_suffix(".stopped")
    found: Found = {}
    for name in names:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="goldens-") as folder:
            os.environ["MOBILESSD_HOME"] = str(Path(folder) / "home")  # of the children, too
            (work := Path(folder).resolve() / "work").mkdir()
            try:
                if name == "resume":
                    if strict:
                        shutil.rmtree(stopped, ignore_errors=True)
                        stopped_training(stopped)
                    shutil.copytree(stopped, work / "recorded")
                text = json.dumps(SECTIONS[name](work))
            except (Exception, SystemExit) as error:
                if strict:
                    raise
                text = json.dumps({"failed": f"{type(error).__name__}: {error}"})
            found[name] = json.loads(text.replace(str(work), "WORK").replace(str(SHARED), "SHARED"))
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return found


def machine() -> Found:
    """What hashes of floating-point numbers hold for."""
    info = Path("/proc/cpuinfo")
    said = dict(re.findall(r"^(\S.*?)\s*: (.*)$", info.read_text(), re.MULTILINE)) if info.exists() else {}
    parts = [said[key] for key in ("model name", "cpu family", "model", "stepping") if key in said]
    versions = {package: metadata.version(package) for package in PACKAGES}
    return {"processor": " ".join(parts) or platform.machine(), "python": platform.python_version(), **versions}


def leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in nested data, in the words of today."""
    if isinstance(data, (dict, list)) and data:
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from leaves(value, f"{path} / {key}" if path else str(key))
    else:
        yield in_new_words(path), in_new_words(data)


def in_new_words(value: Any) -> Any:
    for old, new in RENAMED if isinstance(value, str) else ():
        value = value.replace(old, new)
    return value


def differences(before: Found, now: Found) -> list[str]:
    """A line for every leaf that is not the same: numbers within TOLERANCE, everything else equal."""
    old, new = dict(leaves(before)), dict(leaves(now))
    lines = []
    for path in dict.fromkeys((*old, *new)):
        was, is_now = old.get(path, "(nothing)"), new.get(path, "(nothing)")
        if isinstance(was, float) and isinstance(is_now, (int, float)) and abs(was - is_now) <= TOLERANCE:
            continue
        if was != is_now:
            lines.append(f"{path}: {was!r} -> {is_now!r}")
    return lines


def record(args: argparse.Namespace) -> int:
    """Writes the findings; those of other sections, recorded earlier in this file, stay."""
    output = Path(args.output)
    known = json.loads(output.read_text())["sections"] if output.exists() else {}
    sections = known | take(args.only, output, strict=True)
    output.write_text(json.dumps({"machine": machine(), "sections": sections}, indent=1) + "\n")
    return 0


def compare(args: argparse.Namespace) -> int:
    recorded = json.loads(Path(args.recording).read_text())
    for line in differences(recorded["machine"], machine()):
        print(f"note: another machine than that of the recording, hashes may differ: {line}", file=sys.stderr)
    names = [name for name in args.only if name in recorded["sections"]]
    now: Found = {}
    count = 0
    for name in names:  # said at once: a run that is cut off has said what it knows
        now |= take([name], Path(args.recording), strict=False)
        lines = [] if name == "texts" else differences(recorded["sections"][name], now[name])
        if "failed" in now[name]:
            lines = [f"failed: {' '.join(now[name]['failed'].split())}"]
        for line in lines:
            print(f"{name} / {line}", flush=True)
        count += len(lines)
    print(f"{count} differences in {', '.join(names)}, of {TREE}")
    if "texts" in names and "failed" not in now["texts"]:
        before, after = recorded["sections"]["texts"], now["texts"]
        for command in sorted(before.keys() | after.keys()):
            old, new = (side.get(command, "").splitlines() for side in (before, after))
            for line in difflib.unified_diff(old, new, f"texts: {command}", command, lineterm="", n=0):
                print(line)
    return 1 if count else 0


def startup(args: argparse.Namespace) -> int:
    """Time of whole processes with warm caches (Python's of compiled modules too), the trees in turns: on the wall, and of
    the processor, which a busy machine changes less. Medians, and this tree's share of the base's."""
    trees = {"base": Path(args.base).resolve(), "this": TREE}
    for name, words in {"--help": ["--help"], "detect one.jpg": ["detect", str(PHOTO), "--no-draw"]}.items():
        times: dict[str, list[tuple[float, float]]] = {"base": [], "this": []}
        with tempfile.TemporaryDirectory(prefix="goldens-") as folder:
            for turn in range(-1, args.runs):  # the first one, uncounted, warms the caches
                for tree in sorted(trees, reverse=bool(turn % 2)):
                    home = {"MOBILESSD_HOME": str(Path(folder) / tree)}
                    command = [sys.executable, "-m", "detection.cli.main", *words]
                    world = environment(trees[tree]) | home
                    world.pop("PYTHONDONTWRITEBYTECODE", None)
                    begun = time.perf_counter(), _of_children()
                    subprocess.run(command, cwd=folder, env=world, check=True, capture_output=True)
                    if turn >= 0:
                        times[tree].append((time.perf_counter() - begun[0], _of_children() - begun[1]))
        for kind, at in {"wall": 0, "processor": 1}.items():
            base, this = (statistics.median(one[at] for one in times[tree]) for tree in ("base", "this"))
            print(
                f"{name}: {kind}: base {base:.3f} s, this {this:.3f} s, ratio {this / base:.2f} (medians of {args.runs})"
            )
    return 0


def _of_children() -> float:
    """Seconds of the processor that the children which have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in (("record", record), ("compare", compare), ("startup", startup)):
        commands.add_parser(name).set_defaults(function=function)
    choices = commands.choices
    choices["record"].add_argument("--output", required=True, metavar="F.json")
    choices["compare"].add_argument("recording", metavar="F.json")
    for name in ("record", "compare"):
        choices[name].add_argument("--only", default=",".join(SECTIONS), metavar="A,B", help=", ".join(SECTIONS))
    choices["startup"].add_argument("--base", required=True, metavar="TREE")
    choices["startup"].add_argument("--runs", type=int, default=15)
    args = parser.parse_args()
    if "only" in args:
        args.only = args.only.split(",")
        if unknown := set(args.only) - set(SECTIONS):
            parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if not DATA.is_dir():
        parser.error(f"needs the images and weights of {SHARED} (set MOBILESSD_SHARED)")
    return args.function(args)


if __name__ == "__main__":
    sys.exit(main())
