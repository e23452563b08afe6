"""From JPEG files to the twelve COCO numbers: our evaluation beside two plain loops, wall time of whole processes.

    python benchmarks/evaluate_wall.py --weights detect.tflite --annotations A.json --images DIR [--rounds 3]
        [--int8 model.int8.xml]

Candidates: `tools/eval_coco.py` in float32 by pycocotools, as records are made; the same with `--engine faster`, whose
numbers are equal; with --int8 this once more with an int8 form of the network, as LiteRT's file holds integers, too; a loop
over LiteRT's raw tensors with the same post-processing (score threshold 0.01, class-wise NMS at IoU 0.6, 100 boxes); a loop
over torchvision's ssdlite320_mobilenet_v3_large with random weights and its own post-processing. The loops end in
pycocotools. Each is a process of its own on the same cores with the same threads, taken in turns; the clock runs from the
start of the process to its end, imports included.

Wanted: ours at most 0.6 x the LiteRT loop, and at most a third of the torchvision loop.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.benchmark.harness import ROOT, Program, Series, run_script, side_by_side, table
from detection.benchmark.machine import describe, machine

PROGRAMS = Path(__file__).with_name("programs")
WANTED = {"litert": 0.6, "torchvision": 1 / 3}
NOTES = """wall: from the start of the process to its end, imports included. cpu: seconds of all threads, median.
ours and litert: one uncounted round first, in which a published file is converted into the cache (once for ever) and
the images enter the system's file cache: what is counted is a warm start. {conversion}
litert: raw tensors need an interpreter that keeps all tensors (experimental_preserve_all_tensors), as the parity oracle
has it; XNNPACK, on by default, works in it. torchvision: random weights, so that every class passes the threshold and it
returns its full 300 boxes an image: its post-processing and its pycocotools are dearer than with trained weights."""


def main() -> int:
    args = parse()
    wanted = args.candidates.split(",")
    on = machine(args.threads)
    said = report(side_by_side(programs(args, wanted), args.rounds), on, args)
    print(said["text"])
    if args.json:
        Path(args.json).write_text(json.dumps({k: v for k, v in said.items() if k != "text"}, indent=1) + "\n")
    return 0 if all(row.get("met", True) for row in said["candidates"]) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, metavar="W", help="a .tflite SSD, so that LiteRT runs it as well")
    parser.add_argument("--annotations", required=True, metavar="A.json")
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--int8", metavar="W", help="an int8 form of the same network, made by `mobilessd quantize`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--candidates", default="ours,faster,int8,litert,torchvision", help="which of them, with commas"
    )
    parser.add_argument("--json", metavar="OUT")
    return parser.parse_args()


def programs(args: argparse.Namespace, wanted: list[str]) -> list[Program]:
    data, threads = (args.annotations, args.images), ("--threads", str(args.threads))
    program = partial(Program, threads=args.threads, pin=True)

    def ours(name: str, weights: str, precision: str, engine: str) -> Program:
        files = ("--weights", weights, "--annotations", data[0], "--images", data[1], "--json", "OUT")
        rules = ("--score", "0.01", "--iou", "0.6", "--max-detections", "100", "--engine", engine)
        script = str(ROOT / "tools" / "eval_coco.py")
        return program(name, (script, *files, *threads, "--precision", precision, *rules))

    every = {
        "ours": ours("ours", args.weights, "float32", "pycocotools"),
        "faster": ours("ours, engine faster", args.weights, "float32", "faster"),
        "int8": ours("ours, faster and int8", args.int8, "int8", "faster") if args.int8 else None,
        "litert": program("litert", (str(PROGRAMS / "litert_loop.py"), args.weights, *data, "OUT", *threads)),
        "torchvision": program(
            "torchvision", (str(PROGRAMS / "torchvision_loop.py"), *data, "OUT", *threads), warm_up=False
        ),
    }
    if unknown := [name for name in wanted if name not in every]:
        raise SystemExit(f"error: no candidate {', '.join(unknown)}; there are {', '.join(every)}")
    return [found for name in wanted if (found := every[name])]


def report(series: list[Series], on: dict, args: argparse.Namespace) -> dict:
    """The table and its honest footnotes (`text`), and everything as plain data."""
    named = {one.program.name: one for one in series}
    rivals = [name for name in WANTED if name in named]
    rows, data, bars = [("", "median s", "best s", "cpu s", "MiB", "AP", *(f"of {name}'s" for name in rivals))], [], []
    for name, one in named.items():
        said = one.runs[-1].answer
        row = {
            "name": name,
            "wall_median": one.median,
            "wall_best": one.best,
            "wall": [run.wall for run in one.runs],
            "cpu_median": one.cpu,
            "peak_mib": one.peak,
            "AP": said["AP"],
            "images": said["images"],
            "warm_up_wall": one.warm_up.wall if one.warm_up else None,
        }
        words = [name, f"{one.median:.2f}", f"{one.best:.2f}", f"{one.cpu:.1f}", f"{one.peak:.0f}", f"{said['AP']:.3f}"]
        for rival in rivals if name not in WANTED else ():
            ratio, wanted = one.median / named[rival].median, WANTED[rival]
            row[f"of_{rival}"], row["met"] = ratio, row.get("met", True) and ratio <= wanted
            words.append(f"{ratio:.2f} x")
            verdict = "met" if ratio <= wanted else "MISSED"
            bars.append(f"{name}: {ratio:.2f} of {rival}'s; wanted {wanted:.2f} or less: {verdict}")
        rows.append((*words, *[""] * (len(rows[0]) - len(words))))
        data.append(row)
    ours = named.get("ours")
    conversion = f"The uncounted run of ours took {ours.warm_up.wall:.1f} s." if ours and ours.warm_up else ""
    runtime = ours.runs[-1].answer.get("protocol", {}).get("runtime", "") if ours else ""
    text = [
        *describe(on),
        f"{args.annotations}: {data[0]['images']} images, {args.rounds} rounds, in turns",
        f"ours: {runtime}; litert: the file's own precision, int8",
        "",
        table(rows),
        "",
        *bars,
        "",
        NOTES.format(conversion=conversion),
    ]
    return {"machine": on, "rounds": args.rounds, "ours": runtime, "candidates": data, "text": "\n".join(text)}


if __name__ == "__main__":
    run_script(main)
