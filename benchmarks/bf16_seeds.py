"""Whether training in bfloat16 costs accuracy: the same run in float32 and in bfloat16, with several seeds.

    python benchmarks/bf16_seeds.py --data BCCD --output DIR [--seeds 0 1 2] [--steps 250]
    python benchmarks/bf16_seeds.py --data instances.json --val val.json --config ssdlite_mobilenet_v2_mobilessd --output DIR

Each run is `mobilessd train` with a batch of 16 and one evaluation, at its end; without --config it starts from the weights
that ship, with the recipe `finetune`. A run whose history holds its evaluation is not made again, so that the script goes on
where it was stopped. The figure of a precision is its mean over the seeds, its spread the standard deviation.

Wanted: bfloat16's mean AP below float32's by no more than the larger of the two spreads. (Of seeds as few as three, a
difference within the spread says no more than that none was seen.)
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.benchmark.harness import ROOT, run_script, table
from detection.benchmark.machine import describe, machine
from detection.train.learn.history import JSONL, read_history

PRECISIONS = ("float32", "bfloat16")
NUMBERS = ("AP", "AP50")


def main() -> int:
    args = parse()
    on = machine(args.threads)
    found: dict[str, list[dict[str, float]]] = {precision: [] for precision in PRECISIONS}
    for seed in args.seeds:
        for precision in PRECISIONS if seed % 2 == 0 else PRECISIONS[::-1]:
            folder = Path(args.output) / f"{precision}-{seed}"
            if evaluation_of(folder) is None:
                train(args, folder, precision, seed)
            row = evaluation_of(folder)
            if row is None:
                raise SystemExit(f"error: {folder}: its run was not evaluated")
            found[precision].append(
                {name: float(row[name]) for name in NUMBERS} | {"seed": seed, "speed": speed(folder)}
            )
            print(precision, found[precision][-1], file=sys.stderr, flush=True)
    means = {p: {name: statistics.mean(one[name] for one in runs) for name in NUMBERS} for p, runs in found.items()}
    spreads = {
        p: {name: statistics.stdev(one[name] for one in runs) if len(runs) > 1 else 0.0 for name in NUMBERS}
        for p, runs in found.items()
    }
    lost = means["float32"]["AP"] - means["bfloat16"]["AP"]
    met = lost <= max(spreads[precision]["AP"] for precision in PRECISIONS)
    rows = [("precision", "seeds", *(word for name in NUMBERS for word in (name, "+-")), "images/s")]
    for precision in PRECISIONS:
        numbers = (f"{part[precision][name]:.4f}" for name in NUMBERS for part in (means, spreads))
        rate = statistics.median(one["speed"] for one in found[precision])
        rows.append((precision, str(len(found[precision])), *numbers, f"{rate:.1f}"))
    print(*describe(on), f"{args.steps} steps of 16 of {args.data}, {args.config}", sep="\n", end="\n\n")
    print(table(rows))
    print(f"\nbfloat16 is {lost:+.4f} AP below float32; {'met' if met else 'MISSED'} (within the spread)")
    if args.json:
        said = {"machine": on, "runs": found, "means": means, "spreads": spreads, "met": met}
        Path(args.json).write_text(json.dumps(said, indent=1) + "\n")
    return 0 if met else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="PATH")
    parser.add_argument("--val", metavar="PATH", help="validation (default: found by looking)")
    parser.add_argument("--config", default="finetune", metavar="NAME")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the runs lie, one a folder")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="OUT")
    return parser.parse_args()


def train(args: argparse.Namespace, folder: Path, precision: str, seed: int) -> None:
    """One run; what was begun in its folder goes on where it left a state."""
    command = [sys.executable, "-m", "detection.cli.main", "train", "--output", str(folder)]
    if (folder / JSONL).exists():
        command += ["--resume"]
    else:
        command += ["--data", args.data, *(["--val", args.val] if args.val else []), "--config", args.config]
        command += ["--steps", str(args.steps), "--batch", "16", "--seed", str(seed), "--threads", str(args.threads)]
        command += ["--precision", precision, "--compile", "no", "--set", "evaluate_every=0", "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {folder.name} failed:\n{done.stderr[-2000:]}")


def evaluation_of(folder: Path) -> dict[str, Any] | None:
    """The row of a finished run's evaluation."""
    rows = read_history(folder) if (folder / JSONL).exists() else []
    return next((row for row in reversed(rows) if row.get("AP") is not None), None)


def speed(folder: Path) -> float:
    """Images a second of a run's training: the median of its log intervals."""
    rates = [row["images_per_second"] for row in read_history(folder) if row.get("images_per_second")]
    return statistics.median(rates) if rates else 0.0


if __name__ == "__main__":
    run_script(main)
