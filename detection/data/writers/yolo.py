"""`DetectionData` as YOLO has it: data.yaml, images/{split}/ and labels/{split}/ with `class cx cy w h` in fractions, as
`readers.yolo` reads it back and Ultralytics' tools do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from detection.data.dataset import CROWD, DIFFICULT, IGNORE, DetectionData
from detection.data.layout import role_of
from detection.data.writers.image_names import names_of, put_images, renamed
from detection.errors import BadDataError

SPLITS = ("train", "val", "test")


def write(parts: Mapping[str, DetectionData], folder: Path) -> list[str]:
    """One part without a name is `train`. Raises BadDataError for splits that data.yaml has no word for."""
    roles = [role_of(split) if split else "train" for split in parts]
    if wrong := [split for split, role in zip(parts, roles) if role not in SPLITS or roles.count(role) > 1]:
        raise BadDataError(
            f"YOLO's data.yaml knows train, val and test, not {', '.join(wrong)}; choose one with --split"
        )
    config: dict[str, object] = {role: f"images/{role}" for role in SPLITS if role in roles}
    notes = []
    for role, data in zip(roles, parts.values()):
        config["names"] = dict(enumerate(data.class_names))
        names = names_of(data, set())
        notes += renamed(data, names)
        put_images(data, names, folder / "images" / role)
        for index, name in enumerate(names):
            label = (folder / "labels" / role / name).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("".join(_lines(data, index)), encoding="utf-8")
    text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False, width=1 << 16)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return notes + _lost(list(parts.values()))


def _lines(data: DetectionData, index: int) -> list[str]:
    rows = np.arange(data.starts[index], data.starts[index + 1])
    rows = rows[(data.labels[rows] >= 0) & ((data.flags[rows] & (CROWD | IGNORE)) == 0)]
    height, width = data.sizes[index]
    x, y, w, h = (data.exact[rows] / [width, height, width, height]).T
    lines = zip(data.labels[rows].tolist(), x + w / 2, y + h / 2, w, h)
    return [f"{label} {cx:.8f} {cy:.8f} {bw:.8f} {bh:.8f}\n" for label, cx, cy, bw, bh in lines]


def _lost(parts: list[DetectionData]) -> list[str]:
    flags, scores = np.concatenate([part.flags for part in parts]), np.concatenate([part.scores for part in parts])
    crowds, ignored = int(((flags & CROWD) != 0).sum()), int(((flags & IGNORE) != 0).sum())
    hard, scored = int((flags == DIFFICULT).sum()), int((scores != 1).sum())
    lost = [
        (crowds, "crowd boxes: left out, so that what they cover counts as background"),
        (ignored, "regions to ignore: left out, so that what they cover counts as background"),
        (hard, "difficult objects: objects like any other"),
        (scored, "boxes with scores: written without"),
    ]
    ids = ["YOLO has no ids of images and classes, and no areas of outlines: not written"]
    return [f"YOLO has no mark for {count:,} {what}" for count, what in lost if count] + ids
