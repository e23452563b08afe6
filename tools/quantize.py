#!/usr/bin/env python3
"""Makes a smaller and faster int8 file: the same as `mobilessd quantize`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["quantize", *sys.argv[1:]]))
