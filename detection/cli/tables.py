"""`mobilessd tables`: every published figure beside ours, as the page docs/tables.md. Nothing is downloaded or run."""

from __future__ import annotations

import argparse
from pathlib import Path

from detection.errors import MobileSSDError, need

EPILOG = """examples:
  mobilessd tables > docs/tables.md
  mobilessd tables --plot accuracy.png"""
KINDS = (".png", ".svg", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option."""
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw accuracy against multiply-adds and parameters (the V1 paper's figures 4 and 5, and the detectors)"
        " into FILE (.png, .svg or .pdf) in the place of the page",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the page, or draws the plot and prints how well its lines fit."""
    need("counting networks", "torch", "torchvision")
    if args.plot is None:
        from detection.cli.tables_page import page

        print(page())
        return 0
    path = Path(args.plot)
    if path.suffix.lower() not in KINDS:
        raise MobileSSDError(f"{args.plot}: a plot is a .png, .svg or .pdf file")
    from detection.cli.tables_plot import draw

    for line in draw(path):
        print(line)
    print(f"wrote {args.plot}")
    return 0
