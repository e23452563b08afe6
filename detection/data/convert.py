"""One data set into another format: what stands in memory after reading and repair."""

from __future__ import annotations

import importlib
import os

from detection.data.dataset import DetectionData
from detection.data.faults import Faults
from detection.data.repair import repair
from detection.data.writers import FORMATS


def convert(data: DetectionData, to: str, output: str | os.PathLike) -> tuple[DetectionData, Faults]:
    """Repairs `data` and writes it as `to` (a key of `writers.FORMATS`); (the repaired data, all that was repaired or
    left out). Images and boxes that training would not use are not written. Raises BadDataError where nothing is left.
    """
    fixed, faults = repair(data)
    importlib.import_module(FORMATS[to]).write(fixed, output)
    return fixed, faults
