#!/usr/bin/env python3
"""Finds objects in images, folders and videos: the same as `mobilessd detect`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.cli.main import entry

if __name__ == "__main__":
    sys.argv.insert(1, "detect")
    entry()
