"""From JPEG files to boxes: many images with all cores, and one image from the start of a process to its boxes.

    python benchmarks/detect_files.py --weights model.int8.xml --tflite detect.tflite --images DIR [--rounds 3]

many: `mobilessd detect DIR --shards` beside a LiteRT loop that reads, resizes, invokes and post-processes in turn, in
images a second once the network is there; beside them the same command without --shards (--no-draw --csv), and the limit
that is reckoned from the parts (decode, resize, network, post-processing; `programs/parts_files.py`).
one: `mobilessd detect one.jpg --json`, beside a bare LiteRT script that does the same; wall time of whole processes, imports
included, and their memory. Score threshold 0.01 and the same NMS for both.

Wanted: many at least 2.2 x the loop, 0.85 of the limit, and without --shards 0.9 of that; one in at most 1.0 s, 1.25 x the
script and 350 MiB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.benchmark.harness import ROOT, Program, Series, run_script, side_by_side, table
from detection.benchmark.machine import describe, machine

PROGRAMS = Path(__file__).with_name("programs")
MANY, OF_LIMIT, PLAIN = 2.2, 0.85, 0.9
ONE, ONE_RATIO, ONE_MEMORY = 1.0, 1.25, 350


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, metavar="W", help="of ours, such as an int8 .xml")
    parser.add_argument("--tflite", required=True, metavar="FILE", help="what LiteRT runs")
    parser.add_argument("--images", required=True, metavar="DIR", help="a folder of .jpg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="OUT")
    args = parser.parse_args()
    weights, tflite, images = args.weights, args.tflite, args.images
    one = str(sorted(Path(images).glob("*.jpg"))[0])
    threads = ("--threads", str(args.threads))
    detect = (str(ROOT / "tools" / "detect.py"), one, "--weights", weights, "--score", "0.01", "--no-draw", *threads)
    program = partial(Program, threads=args.threads, pin=True)
    programs = [
        program("ours, many", (str(PROGRAMS / "ours_files.py"), weights, images, "OUT", *threads)),
        program("litert, many", (str(PROGRAMS / "litert_files.py"), tflite, images, "OUT", *threads)),
        program("ours, no shards", (str(PROGRAMS / "ours_files.py"), weights, images, "OUT", *threads, "--plain")),
        program("limit of the parts", (str(PROGRAMS / "parts_files.py"), weights, images, "OUT", *threads)),
        program("ours, one", (*detect, "--json", "OUT")),
        program("litert, one", (str(PROGRAMS / "litert_files.py"), tflite, one, "OUT", *threads)),
    ]
    on = machine(args.threads)
    series = side_by_side(programs, args.rounds)
    many = [statistics.median(run.answer["images_per_second"] for run in part.runs) for part in series[:4]]
    ours, theirs = series[4:]
    rate, loop, plain, limit = many
    bars = {
        "many": (rate / loop, rate >= MANY * loop, f"{MANY} x the loop or more"),
        "limit": (rate / limit, rate >= OF_LIMIT * limit, f"{OF_LIMIT} of the limit or more"),
        "no shards": (plain / rate, plain >= PLAIN * rate, f"{PLAIN} of that with shards or more"),
        "one": (ours.median / theirs.median, _quick(ours, theirs), f"{ONE} s, {ONE_RATIO} x, {ONE_MEMORY} MiB or less"),
    }
    rows = [("", "images/s", "wall s", "best s", "cpu s", "MiB")]
    for part, images_a_second in zip(series, [*many, None, None]):
        speed = f"{images_a_second:.1f}" if images_a_second else ""
        times = (f"{part.median:.2f}", f"{part.best:.2f}", f"{part.cpu:.2f}", f"{part.peak:.0f}")
        rows.append((part.program.name, speed, *times))
    print(
        *describe(on),
        f"{len(list(Path(images).glob('*.jpg')))} images, {args.rounds} rounds, in turns",
        "",
        sep="\n",
    )
    print(table(rows), "", sep="\n")
    parts = series[3].runs[-1].answer
    print(
        f"parts, ms of a core: {', '.join(f'{k} {v:.2f}' for k, v in parts['ms'].items())}; {parts['streams']} streams\n"
    )
    for name, (ratio, met, wanted) in bars.items():
        print(f"{name}: {ratio:.2f} x; wanted {wanted}: {'met' if met else 'MISSED'}")
    if args.json:
        said = {"machine": on, "rows": rows, "bars": {name: [ratio, met] for name, (ratio, met, _) in bars.items()}}
        Path(args.json).write_text(json.dumps(said, indent=1) + "\n")
    return 0 if all(met for _, met, _ in bars.values()) else 1


def _quick(ours: Series, theirs: Series) -> bool:
    return ours.median <= ONE and ours.median <= ONE_RATIO * theirs.median and ours.peak <= ONE_MEMORY


if __name__ == "__main__":
    run_script(main)
