"""How much of a training its evaluations take, in a short run and in a long one.

    python benchmarks/evaluation_share.py --data PATH [--images DIR] [--val PATH] [--val-images DIR] [--steps 40 4000]
        [--batch 16 4]

Options of data as those of `mobilessd train`. Each run is that command from the weights that ship, with all else as it is by
itself; a batch for each of --steps. The clock of evaluations runs from when the network begins to look at validation images
until their COCO numbers are there, in the last evaluation as well; that of the run over the whole command, its start and its
exported files included.

Wanted: at most a tenth of the run. (A run that sees few more images than validation has cannot: the
evaluation at its end is of all of them.)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.benchmark.harness import run_script, table
from detection.benchmark.machine import describe, machine
from detection.cli.main import main as mobilessd
from detection.train import finalize
from detection.train.learn.history import read_history

MOST = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="PATH")
    parser.add_argument("--images", metavar="DIR")
    parser.add_argument("--val", metavar="PATH", help="validation (default: found by looking)")
    parser.add_argument("--val-images", metavar="DIR")
    parser.add_argument("--steps", nargs="+", type=int, default=[40, 4000])
    parser.add_argument("--batch", nargs="+", type=int, default=[16, 4])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    given = {"--data": args.data, "--images": args.images, "--val": args.val, "--val-images": args.val_images}
    data = [word for option, value in given.items() if value for word in (option, value)]
    on, rows = machine(args.threads), [("steps", "batch", "evaluations", "their s", "run s", "share", "")]
    most = 0.0
    for steps, batch in zip(args.steps, args.batch, strict=True):
        with tempfile.TemporaryDirectory() as folder, timed_evaluations() as seconds:
            length = ["--steps", str(steps), "--batch", str(batch), "--threads", str(args.threads)]
            began = time.perf_counter()
            code = mobilessd(["train", *data, *length, "--output", f"{folder}/run"])
            whole = time.perf_counter() - began
            if code:
                raise SystemExit(f"error: the run of {steps} steps ended with code {code}")
            kept = read_history(Path(folder) / "run")
        assert sum("AP" in row for row in kept) <= len(seconds), "an evaluation whose time was not taken"
        share = sum(seconds) / whole
        most = max(most, share)
        verdict = "met" if share <= MOST else "MISSED"
        numbers = (f"{sum(seconds):.1f}", f"{whole:.1f}", f"{share:.1%}", verdict)
        rows.append((str(steps), str(batch), str(len(seconds)), *numbers))
    print(table(rows, 3), *describe(on), sep="\n")
    return 0 if most <= MOST else 1


@contextmanager
def timed_evaluations() -> Iterator[list[float]]:
    """Inside, a list of the seconds that each evaluation of a training takes."""
    validate, seconds = finalize.validate, list[float]()

    def timed(*arguments, **options):
        began = time.perf_counter()
        try:
            return validate(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - began)

    finalize.validate = timed
    try:
        yield seconds
    finally:
        finalize.validate = validate


if __name__ == "__main__":
    run_script(main)
