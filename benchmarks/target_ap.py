"""AP, size and milliseconds of the folders that `mobilessd export --target` writes, a target at a time.

    python benchmarks/target_ap.py --folder targets --weights W --images DIR --data instances.json --calibration DIR \\
        [--tflite w.tflite --tflite-int8 w.int8.tflite --openvino-int8 w.int8.xml] [--only frigate,hailo] [--threads 1]
    python benchmarks/target_ap.py --folder targets --weights W --only-time --threads 2

AP is that of `mobilessd eval --weights MODEL --data GT`. Folders and numbers stay in --folder: what is there is not made again,
so that a run that was stopped goes on; remove NAME and NAME.json there to have a row anew. Milliseconds are measured by
themselves, on a quiet machine: from an RGB image of 640 x 480 in memory to its boxes, processes in turns, by the harness of
`mobilessd benchmark`. The table that is printed holds all that is known; an empty place was not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detection.benchmark.candidates import Candidate  # noqa: E402
from detection.benchmark.machine import describe, machine  # noqa: E402
from detection.benchmark.timing import drawn_image, time_detectors  # noqa: E402
from detection.export.staging import size_of  # noqa: E402

OURS = "float32"
TIMES = "ms.json"


@dataclass(frozen=True)
class Row:
    """name: of the folder. options: of export; none: the weights themselves. runtime: what `Detector` runs it in. source: an
    option of this script, "weights" where it is none. about: for the table."""

    name: str
    options: tuple[str, ...]
    model: str
    runtime: str
    source: str = "weights"
    about: str = ""


ROWS = (
    Row(OURS, (), "", "openvino", about="the weights themselves"),
    Row("frigate", ("frigate",), "model.xml", "openvino", about="20 boxes an image at most"),
    Row("frigate-int8", ("frigate",), "model.xml", "openvino", "openvino_int8", "the same"),
    Row("frigate-gpu", ("frigate", "--gpu"), "model.onnx", "onnxruntime"),
    Row("tflite-ssd", ("tflite-ssd",), "model.tflite", "litert", "tflite", "one suppression for all classes"),
    Row("tflite-ssd-int8", ("tflite-ssd",), "model.tflite", "litert", "tflite_int8", "the same"),
    Row("jetson", ("jetson",), "model.onnx", "onnxruntime"),
    Row("opencv", ("opencv",), "model.onnx", "onnxruntime", about="ncnn, rknn, coreml, core-onnx: the same graph"),
    Row("hailo", ("hailo",), "model.onnx", "onnxruntime", about="its graph; float, the chip rounds to int8"),
    Row("tensorrt-onnx", ("tensorrt-onnx",), "model.onnx", "onnxruntime", about="its graph, int8"),
)
SOURCES = {"tflite": "a float .tflite of W", "tflite_int8": "its int8 form", "openvino_int8": "an int8 .xml of W"}


def main() -> int:
    args = arguments()
    place: Path = args.folder
    place.mkdir(parents=True, exist_ok=True)
    rows = [row for row in ROWS if not args.only or row.name in args.only.split(",")]
    failed = 0
    if args.only_time:
        timed(rows, args)
    else:
        for row in rows:
            if why := measured(row, args):
                failed += not why.startswith("needs")
                print(f"{row.name}: {why}", file=sys.stderr, flush=True)
    print(table(args))
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, type=Path, help="for folders and numbers; kept")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", metavar="DIR")
    parser.add_argument("--data", metavar="GT", help="ground truth of the images")
    parser.add_argument("--calibration", metavar="DIR", help="images that int8 ranges are measured on")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--only-time", action="store_true", help="milliseconds of what lies in --folder, nothing else")
    parser.add_argument("--threads", type=int, default=1)
    for name, what in SOURCES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="FILE", help=what)
    args = parser.parse_args()
    if not args.only_time and not (args.images and args.data):
        parser.error("AP is measured on --images with --data")
    return args


def measured(row: Row, args: argparse.Namespace) -> str:
    """Writes the row's folder and numbers, where they are not there; why not, in a few words."""
    numbers = args.folder / f"{row.name}.json"
    if numbers.exists():
        return ""
    source = getattr(args, row.source)
    if source is None:
        return f"needs --{row.source.replace('_', '-')}"
    model = model_of(row, args)
    if row.options and not Path(model).exists():
        command = ["export", source, "--target", *row.options, "--output", str(args.folder / row.name)]
        if row.name == "tensorrt-onnx":
            if not args.calibration:
                return "needs --calibration"
            command += ["--images", args.calibration]
        if why := ran([*command, "--threads", str(args.threads)]):
            return why
    command = ["eval", "--weights", model, "--data", args.data, "--images", args.images, "--runtime", row.runtime]
    if row.name == OURS:
        command += ["--precision", "float32"]
    return ran([*command, "--threads", str(args.threads), "--quiet", "--json", str(numbers)])


def model_of(row: Row, args: argparse.Namespace) -> str:
    return str(args.folder / row.name / row.model) if row.options else args.weights


def ran(command: list[str]) -> str:
    """Runs a command of mobilessd; its last words where it fails."""
    command = [sys.executable, "-m", "detection.cli.main", *command]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]


def timed(rows: list[Row], args: argparse.Namespace) -> None:
    """Measures the milliseconds of each model that is there, and keeps them with what was said of the machine."""
    there = [row for row in rows if not row.options or Path(model_of(row, args)).exists()]
    candidates = [
        Candidate(row.name, model_of(row, args), row.runtime, "float32" if row.name == OURS else "auto", args.threads)
        for row in there
    ]
    said = machine()
    print("\n".join(describe(said)), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        image = drawn_image(Path(folder))
        tell = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
        timings = time_detectors(candidates, image, rounds=3, seconds=3.0, tell=tell)
    kept = {"machine": said, "threads": args.threads, "ms": {}}
    for row, timing in zip(there, timings):
        if not timing.error:
            kept["ms"][row.name] = timing.latency
    (args.folder / TIMES).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def table(args: argparse.Namespace) -> str:
    """All that is known, a row a target."""
    times = args.folder / TIMES
    known = json.loads(times.read_text(encoding="utf-8")) if times.exists() else {"ms": {}, "threads": args.threads}
    lines = [f"| folder | AP | MB | ms, {known['threads']} threads | |", "|---|---|---|---|---|"]
    for row in ROWS:
        numbers, model = args.folder / f"{row.name}.json", Path(model_of(row, args))
        ap = f"{json.loads(numbers.read_text(encoding='utf-8'))['AP']:.3f}" if numbers.exists() else ""
        size = f"{size_of(model) / 1e6:.1f}" if row.options and model.exists() else ""
        ms = f"{known['ms'][row.name]:.1f}" if row.name in known["ms"] else ""
        lines.append(f"| `{row.name}` ({row.runtime}) | {ap} | {size} | {ms} | {row.about} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
