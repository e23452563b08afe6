"""What other systems find with the folders that `mobilessd export --target` writes, beside what our float32 finds.

    python benchmarks/targets.py --weights ssdlite_mobilenet_v2.coco --images coco_val500/images
    python benchmarks/targets.py --weights W --images DIR --tflite w.tflite --tflite-int8 w.int8.tflite \\
        --openvino-int8 w.int8.xml --python mediapipe=env/bin/python --python ncnn=env/bin/python

Each system runs in a process of its own, by `programs/target_system.py`: MediaPipe, the Task Library, OpenCV, ncnn and RKNN's
simulator are their own code, from pip; Frigate and detectNet are their post-processing in a few lines. --python names the
interpreter that has a system's packages (default: this one); what is not installed there is said, and not counted.
Of the boxes that our float32 has at score 0.4 or more, the share is told that a system has, too: same class, IoU 0.5 or more.
Ends with code 1 where a share is below its bar. `target_ap.py` has AP, size and milliseconds of the folders.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detection.boxes.geometry import iou_matrix  # noqa: E402
from detection.detector import Detector  # noqa: E402
from detection.images.decode import read_image  # noqa: E402
from detection.images.sources import find_sources  # noqa: E402

PROGRAM = ROOT / "benchmarks" / "programs" / "target_system.py"
SCORE, IOU = 0.4, 0.5


@dataclass(frozen=True)
class Row:
    """A system: what it is called, its name in `target_system`, the options that write its folder, what it is written of (an
    option of this script; "weights" where it is none), and the share that it must reach (None: only told)."""

    title: str
    system: str
    target: tuple[str, ...]
    source: str = "weights"
    bar: float | None = 0.95


ROWS = (
    Row("Frigate openvino", "frigate-openvino", ("frigate",)),
    Row("Frigate openvino, int8", "frigate-openvino", ("frigate",), "openvino_int8", 0.9),
    Row("Frigate onnx", "frigate-onnx", ("frigate", "--gpu")),
    Row("Frigate cpu", "frigate-cpu", ("tflite-ssd",), "tflite"),
    Row("Frigate cpu, int8", "frigate-cpu", ("tflite-ssd",), "tflite_int8", 0.9),
    Row("MediaPipe, of --target mediapipe", "mediapipe", ("mediapipe",), "tflite", 0.93),
    Row("MediaPipe, of --target mediapipe, int8", "mediapipe", ("mediapipe",), "tflite_int8", 0.9),
    Row("MediaPipe", "mediapipe", ("tflite-ssd",), "tflite", None),
    Row("MediaPipe, int8", "mediapipe", ("tflite-ssd",), "tflite_int8", None),
    Row("MediaPipe, given the input's size", "mediapipe-stretched", ("tflite-ssd",), "tflite", 0.93),
    Row("MediaPipe, given the input's size, int8", "mediapipe-stretched", ("tflite-ssd",), "tflite_int8", 0.9),
    Row("MediaPipe's resize alone, before OpenCV", "mediapipe-resize", ("opencv",), bar=None),
    Row("Task Library", "task-library", ("tflite-ssd",), "tflite"),
    Row("Task Library, int8", "task-library", ("tflite-ssd",), "tflite_int8", 0.9),
    Row("detectNet, bilinear resize", "jetson", ("jetson",)),
    Row("detectNet, its nearest-pixel resize", "jetson-nearest", ("jetson",), bar=None),
    Row("OpenCV", "opencv", ("opencv",)),
    Row("ncnn", "ncnn", ("ncnn",)),
    Row("RKNN simulator, float16", "rknn", ("rknn",)),
    Row("RKNN simulator, int8", "rknn-int8", ("rknn",), bar=0.9),
)
SOURCES = {"tflite": "a float .tflite of W", "tflite_int8": "its int8 form", "openvino_int8": "an int8 .xml of W"}


def main() -> int:
    args = arguments()
    pythons = dict(pair.split("=", 1) for pair in args.python)
    sources = [source.name for source in find_sources([args.images]) if not source.video]
    files = sources[:: max(len(sources) // args.number, 1)][: args.number]
    truth = Detector(args.weights, precision="float32", score=SCORE, threads=2)
    wanted = [truth(read_image(file)) for file in files]
    print(f"{args.weights}: {sum(map(len, wanted))} boxes of {len(files)} images at {SCORE} or more, {truth.runtime}")
    print("\n| system | found | share | ms, median |\n|---|---|---|---|")
    missed = []
    with tempfile.TemporaryDirectory() as place:
        listed = Path(place) / "images.json"
        listed.write_text(json.dumps(files), encoding="utf-8")
        folders: dict[tuple, Path] = {}
        for row in ROWS:
            if args.only and row.system not in args.only.split(","):
                continue
            if (source := getattr(args, row.source)) is None:
                print(f"| {row.title} | not run: needs --{row.source.replace('_', '-')} | | |")
                continue
            if row.system == "rknn-int8" and not args.calibration:
                print(f"| {row.title} | not run: needs --calibration | | |")
                continue
            if row.system.startswith("rknn"):  # it is decoded by the script of OpenCV's
                opencv = next(each for each in ROWS if each.system == "opencv")
                written(Path(place), folders, opencv, source, sys.executable)
            folder = written(Path(place), folders, row, source, pythons.get(row.system, sys.executable))
            answers = run(row, folder, listed, Path(place) / "out.json", pythons.get(row.system, sys.executable), args)
            if isinstance(answers, str):
                print(f"| {row.title} | not run: {answers} | | |", flush=True)
                continue
            found, total = share(wanted, [one["rows"] for one in answers])
            ms = median(one["ms"] for one in answers)
            print(f"| {row.title} | {found} of {total} | {found / total:.1%} | {ms:.1f} |", flush=True)
            if row.bar is not None and found < row.bar * total:
                missed.append(f"{row.title}: {found / total:.1%}, bar {row.bar:.0%}")
    print("\n".join(["", *(f"MISSED: {line}" for line in missed)]))
    return 1 if missed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--number", type=int, default=50, help="of images (default: 50)")
    parser.add_argument("--calibration", metavar="DIR", help="images that RKNN's int8 ranges are measured on")
    parser.add_argument("--only", metavar="SYSTEM,...", help=f"of {', '.join(dict.fromkeys(r.system for r in ROWS))}")
    parser.add_argument("--python", action="append", default=[], metavar="SYSTEM=PYTHON", help="may be repeated")
    for name, what in SOURCES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="FILE", help=what)
    return parser.parse_args()


def written(place: Path, folders: dict[tuple, Path], row: Row, source: str, python: str) -> Path:
    """The row's folder, which several rows may share; ncnn's files are made by pnnx."""
    key = (row.target, source)
    if key not in folders:
        name = row.target[0] if row.source == "weights" and len(row.target) == 1 else f"{len(folders)}"
        folder = place / name
        command = ["export", source, "--target", *row.target, "--output", str(folder), "--threads", "2"]
        done = subprocess.run(
            [sys.executable, "-m", "detection.cli.main", *command], capture_output=True, text=True, cwd=ROOT
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        folders[key] = folder
        if row.system == "ncnn":
            import onnx

            sides = [
                side.dim_value for side in onnx.load(folder / "model.onnx").graph.input[0].type.tensor_type.shape.dim
            ]
            tool = Path(python).with_name("pnnx")
            if tool.exists():
                shape = f"inputshape={sides}".replace(" ", "")
                subprocess.run([tool, "model.onnx", shape], cwd=folder, capture_output=True, check=True)
    return folders[key]


def run(row: Row, folder: Path, listed: Path, output: Path, python: str, args: argparse.Namespace) -> list[dict] | str:
    """What the system answers, or in a few words why it does not."""
    output.unlink(missing_ok=True)
    if row.system == "ncnn" and not (folder / "model.ncnn.param").exists():
        return "needs pnnx beside its Python"
    command = [python, str(PROGRAM), row.system, str(folder), str(listed), str(output)]
    command += [args.calibration] if row.system == "rknn-int8" else []
    done = subprocess.run(command, capture_output=True, text=True)
    if not output.exists():
        return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:120]
    return json.loads(output.read_text(encoding="utf-8"))


def share(wanted: list, answers: list[list]) -> tuple[int, int]:
    """Of all boxes wanted, how many are found: same class, IoU of at least 0.5; and how many there are."""
    total = found = 0
    for one, rows in zip(wanted, answers, strict=True):
        table = np.array(rows, np.float64).reshape(-1, 6)
        for box, kind in zip(one.boxes, one.class_ids):
            rivals = table[table[:, 0] == kind, 2:]
            total, found = total + 1, found + bool(len(rivals) and iou_matrix(box[None], rivals).max() >= IOU)
    return found, total


if __name__ == "__main__":
    sys.exit(main())
