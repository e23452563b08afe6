"""A data set of what was found: labels to correct, or to train another detector on. See `Output`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from detection.boxes.detections import Detections
from detection.data.build import build
from detection.data.convert import write
from detection.data.repair import clean_boxes
from detection.errors import MobileSSDError
from detection.images.sources import Source, is_address
from detection.outputs import Record

BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))  # a score of 1 is what people drew


class LabelFiles:
    """Collects what was found in images and writes it, when all is done, as a data set in a new folder, with the images.
    format: a key of `data.writers.FORMATS`. notes: what the format cannot hold, once it is written."""

    def __init__(self, format: str, folder: str | os.PathLike, sources: Sequence[Source]) -> None:
        """Raises MobileSSDError where the folder holds something, or a source is no image file, before any work is done."""
        if odd := next((one for one in sources if one.video or one.camera or is_address(one.name)), None):
            raise MobileSSDError(f"--labels needs image files, and {odd.shown} is none: save its images first")
        if os.path.isfile(folder) or (os.path.isdir(folder) and os.listdir(folder)):
            raise MobileSSDError(f"{folder}: is there already; name a folder that is not, or is empty")
        self.format, self.folder = format, folder
        self.records: list[tuple[str, int, Detections]] = []
        self.notes: list[str] = []

    def add(self, record: Record) -> None:
        if record.detections is not None:
            self.records.append((record.name, record.image_id, record.detections))

    def close(self) -> None:
        if not self.records:
            return
        names, ids, found = zip(*self.records)
        first: Detections = found[0]
        data = build(
            first.class_names,
            names,
            np.repeat(np.arange(len(found)), [len(one) for one in found]),
            np.concatenate([one.boxes for one in found]),
            np.concatenate([one.class_ids for one in found]),
            sizes=[one.image_size for one in found],
            image_ids=ids,
            scores=np.minimum(np.concatenate([one.scores for one in found]), BELOW_ONE),
            category_ids=first.category_ids,
            source="detect",
            origin=str(self.folder),
        )
        self.notes = write({"": clean_boxes(data)}, self.format, self.folder)
