"""Training a classifier on an image folder: `tools/train_classifier.py DIR ...` is `mobilessd classify --train DIR ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["classify", *([] if sys.argv[1:2] in ([], ["-h"], ["--help"]) else ["--train"]), *sys.argv[1:]]))
