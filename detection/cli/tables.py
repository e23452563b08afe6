"""`mobilessd tables`: every published figure beside ours, as the page docs/tables.md. Nothing is downloaded or run."""

from __future__ import annotations

import argparse
import importlib.util

from detection.errors import MissingPackageError

EPILOG = """example:
  mobilessd tables > docs/tables.md"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`mobilessd tables` has no options."""


def run(args: argparse.Namespace) -> int:
    """Prints the page."""
    if importlib.util.find_spec("torch") is None:
        raise MissingPackageError("counting networks needs torch: pip install torch torchvision")
    from detection.cli.tables_page import page

    print(page())
    return 0
