"""`mobilessd detect DIR`, with --shards or without, and how many images a second once the network is there.

python ours_files.py WEIGHTS DIR OUT.json [--threads 2] [--plain]
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.bulk import rate_of
from detection.cli.detect_job import Job
from detection.cli.main import main as mobilessd


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights"), parser.add_argument("images"), parser.add_argument("out")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--plain", action="store_true", help="without --shards: a table of boxes, nothing drawn")
    args = parser.parse_args()
    options = ["--weights", args.weights, "--threads", args.threads, "--score", "0.01"]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
        if args.plain:
            with timed_job() as jobs:
                code = mobilessd(["detect", args.images, "--no-draw", "--csv", f"{folder}/boxes.csv", *options])
        else:
            code = mobilessd(["detect", args.images, "--shards", folder, *options])
    if args.plain:
        ((images, seconds),) = jobs
        rate = images / seconds
    else:
        rate = rate_of(said.getvalue(), f"exit code {code}")
    Path(args.out).write_text(json.dumps({"images_per_second": rate}))


@contextlib.contextmanager
def timed_job():
    """Inside, a list of (images, seconds) of the runs of `mobilessd detect`, their starts left out as --shards does."""
    run, jobs = Job.run, []

    def timed(job):
        begin = time.perf_counter()
        run(job)
        jobs.append((job.images, time.perf_counter() - begin))

    Job.run = timed
    try:
        yield jobs
    finally:
        Job.run = run


if __name__ == "__main__":
    main()
