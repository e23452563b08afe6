#!/usr/bin/env python3
"""Finds objects in a webcam, a stream or a video, as it plays: the same as `mobilessd live`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["live", *sys.argv[1:]]))
