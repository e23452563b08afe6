"""Kills a training, a bulk run and a recording at moments by chance, again and again, and looks at what is left.

    python benchmarks/killed.py --kills 20
    python benchmarks/killed.py --only record --kills 5 --seed 3

Training and bulk: `kill -9`, then the same command goes on from there; in the end it must have what a run that was left alone
has, to the bit (weights; shards), and no state, shard or line in between may be unreadable. Recording: each kill is one
recording, of which all but the last second must play after `salvage`. All data are made here. Prints a line a job, JSON
with --json; exit code 1 where something was lost.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.outputs.leftovers import salvage

ROOT = Path(__file__).resolve().parents[1]
END = math.inf  # of the killing, by time.monotonic()
COMMAND = [sys.executable, "-m", "detection.cli.main"]
RECORD = """
import sys, time
import numpy as np
from pathlib import Path
from detection.outputs.video import Recorder
random, start = np.random.default_rng(0), time.monotonic()
with Recorder(Path(sys.argv[1]), 25) as recorder:
    for number in range(100_000):
        recorder.write(random.integers(0, 256, (240, 320, 3), dtype=np.uint8))
        print(number + 1, flush=True)
        time.sleep(max(0.0, start + number / 25 - time.monotonic()))
"""


def make_data(folder: Path, count: int) -> Path:
    """A COCO data set of squares on noise, 96 x 96 pixels."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        image = random.integers(90, 130, (96, 96, 3), dtype=np.uint8)
        x, y, side = (int(value) for value in random.integers(4, 40, 3))
        side += 20
        image[y : y + side, x : x + side] = (220, 80, 30)
        cv2.imwrite(str(folder / "images" / f"{number:03d}.png"), image)
        images.append({"id": number, "file_name": f"{number:03d}.png", "height": 96, "width": 96})
        box = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": 1, **box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def run(command: list[str], limit: float | None = None) -> int:
    """The exit code of a command; -9 where it was killed after `limit` seconds."""
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, said = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return -9
    if child.returncode:
        print(said[-2000:], file=sys.stderr)
    return child.returncode


def killed_runs(
    command: list[str], going_on: list[str], begun: str, folder: Path, kills: int, random: np.random.Generator
) -> tuple[int, list[Path]]:
    """(kills, folders of the runs that were killed again and again and then ended). An unbroken run goes to `folder`/whole.
    begun: the file of a run's folder that tells that `going_on` is to be added. Raises SystemExit where a run fails."""
    began = time.monotonic()
    if run([*command, str(folder / "whole")]):
        raise SystemExit("the unbroken run failed")
    whole, done, folders = time.monotonic() - began, 0, []
    while done < kills and (not folders or time.monotonic() < END):
        output = folder / f"killed-{len(folders)}"
        folders.append(output)
        code: int = -9
        while code == -9:
            # Each start costs most of the time, so moments of the whole run would nearly all lie in the start.
            more = done < kills and time.monotonic() < END
            limit = float(random.uniform(0.5, 1.0) * whole) if more else None
            code = run([*command, str(output), *(going_on if (output / begun).exists() else [])], limit)
            done += code == -9
            print(f"{output.name}: {done} kills", file=sys.stderr, flush=True)
        if code:
            raise SystemExit(f"a run that was killed does not go on: exit code {code}")
    return done, folders


def train(folder: Path, kills: int, random: np.random.Generator) -> dict[str, object]:
    from safetensors.numpy import load_file

    from detection.train.learn.history import read_history
    from detection.train.state import LAST

    data = make_data(folder / "data", 24)
    command = [*COMMAND, "train", "--data", str(data), "--model", "ssd_mobilenet_v1", "--steps", "400", "--batch", "4"]
    command += ["--input-size", "96", "--device", "cpu", "--threads", "1", "--precision", "float32", "--compile", "no"]
    command += ["--set", "options.alpha=0.25", "--set", "evaluate_every=40", "--set", "log_every=5", "--output"]
    done, outputs = killed_runs(command, ["--resume"], LAST, folder, kills, random)
    theirs, steps = (
        load_file(folder / "whole" / "last.safetensors"),
        [row["step"] for row in read_history(folder / "whole")],
    )
    same = rows = True
    for output in outputs:
        mine = load_file(output / "last.safetensors")
        same = same and all(np.array_equal(mine[name], theirs[name]) for name in theirs)
        rows = rows and [row["step"] for row in read_history(output)] == steps
    return {"kills": done, "runs": len(outputs), "fine": same and rows, "same weights": same, "same history": rows}


def bulk(folder: Path, kills: int, random: np.random.Generator) -> dict[str, object]:
    make_data(folder / "data", 300)
    command = [*COMMAND, "detect", str(folder / "data" / "images"), "--shard-format", "jsonl", "--shard-size", "10"]
    command += ["--threads", "1", "--shards"]
    done, outputs = killed_runs(command, [], "", folder, kills, random)
    theirs, same, rest = shards_of(folder / "whole"), True, list[str]()
    for output in outputs:
        same = same and shards_of(output) == theirs
        rest += [path.name for path in output.glob(".*") if path.name != ".lock"]
    return {"kills": done, "runs": len(outputs), "fine": same and not rest, "same shards": same, "left": rest}


def shards_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def record(folder: Path, kills: int, random: np.random.Generator) -> dict[str, object]:
    lost = []
    for number in range(kills):
        if lost and time.monotonic() >= END:
            break
        path = folder / f"out-{number}.mp4"
        command = [sys.executable, "-c", RECORD, str(path)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert child.stdout
        child.stdout.readline()
        time.sleep(float(random.uniform(0.5, 4)))
        child.kill()
        written = 1 + len(child.communicate()[0].splitlines())
        time.sleep(1)
        salvage(folder, path.stem, ".mp4")
        capture, frames = cv2.VideoCapture(str(path.with_stem(f"{path.stem}-recovered"))), 0
        while capture.grab():
            frames += 1
        lost.append(max(0, written - frames) / 25)
    left = [path.name for path in folder.glob(".*")]
    return {
        "kills": len(lost),
        "fine": max(lost) <= 1 and not left,
        "most seconds lost": round(max(lost), 2),
        "left": left,
    }


JOBS = {"train": train, "bulk": bulk, "record": record}


def main() -> int:
    parser = argparse.ArgumentParser(description="kill -9 at moments by chance: nothing corrupt, nothing lost.")
    parser.add_argument("--kills", type=int, default=20, help="of each job (default: 20)")
    parser.add_argument("--only", default=",".join(JOBS), help="jobs, with commas (default: all)")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="after which nothing more is killed; fewer kills then"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    global END
    END = time.monotonic() + 60 * options.minutes
    os.environ |= {"PYTHONPATH": str(ROOT), "OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}
    found = {}
    for job in options.only.split(","):
        with tempfile.TemporaryDirectory(prefix=f"killed-{job}-") as folder:
            found[job] = JOBS[job](Path(folder), options.kills, np.random.default_rng(options.seed))
        if not options.json:
            print(f"{job}: {', '.join(f'{key} {value}' for key, value in found[job].items())}", flush=True)
    if options.json:
        print(json.dumps(found))
    return int(not all(one["fine"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
