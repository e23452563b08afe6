"""Our training loop for a number of steps: what `tools/train_det.py ARGUMENTS` does, and then its images a second.

    python ours_train.py --skip 5 [--constant] OUT.json --data A.json --images DIR --model M --steps 30 --batch 16 ...

--constant: every step gets the same batch, so that nothing is decoded or augmented: what the loop could do if data
cost nothing. The loop itself is the same.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from detection.cli.main import main as mobilessd


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out"), parser.add_argument("--skip", type=int, default=5)
    parser.add_argument("--constant", action="store_true")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of train_det.py")
    args = parser.parse_args()
    if args.constant:
        from detection.train import run

        run.TrainLoader = one_batch(run.TrainLoader)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        every = ["--select", "0", "--set", f"log_every={args.skip}", "--set", "evaluate_every=0"]
        code = mobilessd(["train", "--output", str(output), *every, *args.arguments])
        if code:
            return code
        rows = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("images_per_second")][1:]  # the first holds what is done once
    weight = [1 / row["images_per_second"] for row in rows]
    said = {"images_per_second": len(rows) / sum(weight), "counted_steps": len(rows) * args.skip}
    said["data_wait"] = sum(row["data_wait"] * w for row, w in zip(rows, weight)) / sum(weight)
    Path(args.out).write_text(json.dumps(said))
    return 0


def one_batch(loader):
    """A loader like `loader` that makes one batch and then gives it for ever."""

    class OneBatch(loader):
        def batches(self, start_step=0, stop_step=None):
            workers, self.workers = self.workers, 0
            batch = next(super().batches(0, 1))
            self.workers = workers
            step = start_step
            while stop_step is None or step < stop_step:
                yield batch
                step += 1

    return OneBatch


if __name__ == "__main__":
    sys.exit(main())
