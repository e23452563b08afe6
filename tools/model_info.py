#!/usr/bin/env python3
"""Shows what a model is and what it costs: the same as `mobilessd info`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["info", *sys.argv[1:]]))
