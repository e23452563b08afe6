"""Training, whole loops side by side: ours on JPEG files, ours on one constant batch, and torchvision's reference.

    python benchmarks/train_throughput.py --annotations A.json --images DIR [--model ssdlite_mobilenet_v2]
        [--alpha 0.75] [--batch 16] [--steps 30] [--rounds 2] [--compiled] [--memory]

The same network, size, batch and threads, the same IoU crops and flips; each a process of its own on the same cores, in
turns. Images a second are taken from the middle of each loop: start-up, the first steps and the end are left out.
--memory measures instead what our loop holds at batch 32, all its processes together.

Wanted: ours at least 1.5 x torchvision's loop, and 2.3 x in bfloat16 (--precision), for processors that have it; on JPEG
files at least 0.9 x what it does on a constant batch; below 4 GB at batch 32, besides the cache of decoded images, and flat.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.benchmark.harness import Program, Series, run_once, run_script, side_by_side, table
from detection.benchmark.machine import describe, machine

PROGRAMS = Path(__file__).with_name("programs")
OVER_REFERENCE = {"float32": 1.5, "bfloat16": 2.3}
OVER_CONSTANT, MEMORY_MIB = 0.9, 4096
SKIP = 5  # steps of one interval of the log; the first interval is not counted


def main() -> int:
    args = parse()
    on = machine(args.threads)
    if args.memory:
        return memory(args, on)
    series = side_by_side(programs(args), args.rounds, warm_up=False)
    rows, met = compare(series, OVER_REFERENCE[args.precision])
    head = f"{args.model}{'' if args.alpha is None else f' {args.alpha}'}, batch {args.batch}, {args.precision}"
    print(*describe(on), f"{head}; {args.rounds} rounds of {args.steps} steps, in turns", sep="\n", end="\n\n")
    print(table(rows))
    if args.json:
        data = {
            one.program.name: [run.answer | {"wall": run.wall, "cpu": run.cpu} for run in one.runs] for one in series
        }
        Path(args.json).write_text(json.dumps({"machine": on, "candidates": data, "met": met}, indent=1) + "\n")
    return 0 if met else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", required=True, metavar="A.json", help="COCO ground truth of training images")
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--model", default="ssdlite_mobilenet_v2")
    parser.add_argument("--alpha", type=float, help="width of the backbone (default: the model's own)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reference-workers", type=int, default=1, help="loading processes of torchvision's loop")
    parser.add_argument("--precision", choices=OVER_REFERENCE, default="float32", help="of ours (default: float32)")
    parser.add_argument("--compiled", action="store_true", help="ours with torch.compile too (minutes of compiling)")
    parser.add_argument("--memory", action="store_true", help="our memory at batch 32, in the place of speeds")
    parser.add_argument("--json", metavar="OUT")
    args = parser.parse_args()
    if args.steps < 3 * SKIP:
        parser.error(f"--steps {args.steps}: at least {3 * SKIP}, so that there is a middle to measure")
    return args


def programs(args: argparse.Namespace) -> list[Program]:
    reference = ["--model", args.model, *([] if args.alpha is None else ["--alpha", str(args.alpha)])]
    reference += ["--workers", str(args.reference_workers), "--threads", str(args.threads), "--skip", str(SKIP)]
    reference += ["--steps", str(args.steps), "--batch", str(args.batch)]
    command = (str(PROGRAMS / "torchvision_train.py"), args.annotations, args.images, "OUT", *reference)
    program = partial(Program, threads=args.threads, pin=True)
    every = [
        program("torchvision's loop", command),
        program("ours", ours(args)),
        program("ours, constant batch", ours(args, "--constant")),
    ]
    if args.compiled:
        every += [
            program("ours, compiled", ours(args, compiled=True)),
            program("ours, compiled, constant batch", ours(args, "--constant", compiled=True)),
        ]
    return every


def ours(args: argparse.Namespace, *more: str, compiled: bool = False) -> tuple[str, ...]:
    """Our side: `tools/train_det.py` with the crops, the matching and the precision of the reference."""
    command = [str(PROGRAMS / "ours_train.py"), "--skip", str(SKIP), *more, "OUT"]
    command += ["--data", args.annotations, "--images", args.images, "--model", args.model]
    command += [] if args.alpha is None else ["--set", f"options.alpha={args.alpha}"]
    command += ["--steps", str(args.steps), "--batch", str(args.batch), "--threads", str(args.threads)]
    command += ["--set", "augmentation=torchvision_ssdlite", "--set", "loss.matcher=torchvision"]
    return (*command, "--precision", args.precision, "--compile", "yes" if compiled else "no", "--device", "cpu")


def compare(series: list[Series], wanted: float) -> tuple[list[tuple[str, ...]], bool]:
    """The table, and whether the bars are met by the form of ours that is faster. wanted: times torchvision's speed."""
    speed = {one.program.name: statistics.median(run.answer["images_per_second"] for run in one.runs) for one in series}
    wait = {one.program.name: statistics.median(run.answer["data_wait"] for run in one.runs) for one in series}
    rows = [("loop", "images/s", "waiting for data", "of torchvision's", "of constant", "")]
    met = []
    for name, value in speed.items():
        words = [name, f"{value:.2f}", f"{wait[name]:.0%}"]
        if name.startswith("ours") and not name.endswith("constant batch"):
            against = value / speed["torchvision's loop"], value / speed[f"{name}, constant batch"]
            good = against[0] >= wanted and against[1] >= OVER_CONSTANT
            met.append(good)
            text = "met" if good else f"MISSED (wanted {wanted} x and {OVER_CONSTANT} x)"
            words += [f"{against[0]:.2f} x", f"{against[1]:.2f} x", text]
        rows.append((*words, *[""] * (6 - len(words))))
    return rows, any(met)


def memory(args: argparse.Namespace, on: dict) -> int:
    """What our loop holds at batch 32 without a cache: the most, and whether it grows in its second half."""
    args.batch = 32
    command = (*ours(args, compiled=args.compiled), "--set", "cache_mb=0")
    run = run_once(Program("ours", command, args.threads, watch=True, pin=True))
    if not run.memory:
        raise SystemExit("error: this system does not say how much memory a process holds (needs Linux)")
    half = len(run.memory) // 2
    first, second = max(run.memory[:half]), max(run.memory[half:])
    met = max(first, second) <= MEMORY_MIB
    print(*describe(on), f"{args.model}, batch 32, {args.steps} steps, no cache", sep="\n", end="\n\n")
    print(f"at most {max(first, second):.0f} MiB, all processes together; {'met' if met else 'MISSED'} ({MEMORY_MIB})")
    print(f"first half of the run {first:.0f} MiB, second half {second:.0f} MiB")
    return 0 if met else 1


if __name__ == "__main__":
    run_script(main)
