"""`mobilessd detect DIR --shards`, and how many images a second, as it says itself.

python ours_files.py WEIGHTS DIR OUT.json [--threads 2]
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.bulk import rate_of
from detection.cli.main import main as mobilessd


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights"), parser.add_argument("images"), parser.add_argument("out")
    parser.add_argument("--threads", default="2")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
        options = ["--weights", args.weights, "--threads", args.threads, "--score", "0.01"]
        code = mobilessd(["detect", args.images, "--shards", folder, *options])
    rate = rate_of(said.getvalue(), f"exit code {code}")
    Path(args.out).write_text(json.dumps({"images_per_second": rate}))


if __name__ == "__main__":
    main()
