"""What the loader gives to the training loop: a batch, padded. numpy here; torch tensors once the loader hands it
out."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from detection.train.input.sample import Sample


@dataclass(frozen=True)
class Batch:
    """N training images; M is the most boxes of any of them (at least 1).

    images uint8 RGB [N, h, w, 3]; boxes float32 [N, M, 4] xyxy in fractions of the input; labels int64 [N, M], -1 in
    the padding and for ignore regions, so that `labels >= 0` are the targets; scores float32 [N, M]; ignore bool [N,
    M]; unknown bool [N, C]: classes that must not count as background in that image; image_ids, indices int64 [N]:
    the data set's id and the position in the data. problems: lines about images that had to be replaced.
    """

    images: Any
    boxes: Any
    labels: Any
    scores: Any
    ignore: Any
    unknown: Any
    image_ids: Any
    indices: Any
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def map(self, function: Any) -> Batch:
        """The batch with `function` applied to each of its arrays or tensors."""
        return replace(self, **{f.name: function(getattr(self, f.name)) for f in fields(self) if f.name != "problems"})

    def to(self, device: Any) -> Batch:
        """The same batch on another device; copies of pinned memory run beside the computation."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        return self.map(lambda tensor: tensor.pin_memory())


def collate(samples: list[Sample], input_size: tuple[int, int], classes: int) -> Batch:
    """Samples of the input's size -> one batch of numpy arrays, boxes in fractions, padded to the fullest image."""
    height, width = input_size
    number, most = len(samples), max(1, max(len(sample.labels) for sample in samples))
    boxes, labels = np.zeros((number, most, 4), np.float32), np.full((number, most), -1, np.int64)
    scores, ignore = np.zeros((number, most), np.float32), np.zeros((number, most), bool)
    unknown = np.zeros((number, classes), bool)
    for i, sample in enumerate(samples):
        count = len(sample.labels)
        boxes[i, :count] = sample.boxes / np.array([width, height, width, height], np.float32)
        labels[i, :count], scores[i, :count], ignore[i, :count] = sample.labels, sample.scores, sample.ignore
        if sample.unknown is not None:
            unknown[i] = sample.unknown
    return Batch(
        images=np.stack([sample.image for sample in samples]),
        boxes=boxes,
        labels=labels,
        scores=scores,
        ignore=ignore,
        unknown=unknown,
        image_ids=np.array([sample.image_id for sample in samples], np.int64),
        indices=np.array([sample.index for sample in samples], np.int64),
    )
