"""One data set into another format: what stands in memory after reading and repair."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from detection.data.dataset import DetectionData
from detection.data.faults import Faults
from detection.data.repair import repair
from detection.data.writers import FORMATS, coco
from detection.errors import BadDataError
from detection.files import atomic_folder


@dataclass(frozen=True)
class Converted:
    """parts: the repaired data by split, as written. faults: all that was repaired or left out. notes: what the format could
    not hold, a line each."""

    parts: dict[str, DetectionData]
    faults: Faults
    notes: list[str]


def convert(
    parts: Mapping[str, DetectionData], to: str, output: str | os.PathLike, failed: dict[str, str] | None = None
) -> Converted:
    """Repairs the data of each split ("" for one without a name) and writes them as `to` (a key of `writers.FORMATS`) into a new
    folder with their images; COCO also as one file, where `output` ends in .json. Images and boxes that training would not
    use are not written. failed: gets what is wrong with a split of which nothing is left, as long as there is another. Raises
    BadDataError where nothing is left, MobileSSDError where the folder holds something."""
    fixed, faults = repaired(parts, failed)
    return Converted(fixed, faults, write(fixed, to, output))


def repaired(
    parts: Mapping[str, DetectionData], failed: dict[str, str] | None = None
) -> tuple[dict[str, DetectionData], Faults]:
    """Each split repaired, and the faults of all of them. failed: as in `convert`. Raises BadDataError where nothing is left."""
    fixed, faults = dict[str, DetectionData](), Faults()
    for split, data in parts.items():
        try:
            fixed[split], found = repair(data)
        except BadDataError as error:
            if failed is None or not fixed and split == list(parts)[-1]:
                raise
            failed[split] = str(error)
            continue
        faults = faults.merged(found)
    return fixed, faults


def is_file(to: str, output: str | os.PathLike) -> bool:
    """Whether `output` is one file, without the images."""
    return to == "coco" and Path(output).suffix.lower() == ".json"


def write(parts: Mapping[str, DetectionData], to: str, output: str | os.PathLike) -> list[str]:
    """Writes data that are repaired already; what the format could not hold, a line each."""
    if is_file(to, output):
        (data,) = parts.values()
        coco.write_file(data, output)
        return []
    with atomic_folder(output) as folder:
        notes: list[str] = importlib.import_module(FORMATS[to]).write(parts, folder)
    return notes
