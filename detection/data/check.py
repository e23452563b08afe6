"""The data check: everything about a data set that would spoil a training, said before its first step.

`check` gives a report for people (`text`) and programs (`to_dict`), and the repaired data; `clean` is its short form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detection.boxes.class_names import match
from detection.data.coverage import Coverage, coverage
from detection.data.dataset import CROWD, DIFFICULT, IGNORE, DetectionData
from detection.data.faults import Faults
from detection.data.overlap import same_files, shared_images
from detection.data.repair import read_headers, repair
from detection.errors import BadDataError

FEW = 10  # boxes: a class with fewer can hardly be learned


@dataclass(frozen=True)
class Summary:
    """One data set in numbers. `boxes` are training targets; crowd, difficult and ignore boxes are counted apart."""

    origin: str
    images: int
    boxes: int
    background: int
    crowd: int
    difficult: int
    ignore: int
    soft: int
    turned_by_exif: int
    median_size: tuple[int, int]
    class_counts: dict[str, int]
    unknown_classes: tuple[str, ...]
    faults: Faults
    duplicates: list[list[str]]

    @property
    def rare(self) -> dict[str, int]:
        """Classes with fewer than `FEW` boxes; classes declared unknown are left out."""
        return {n: c for n, c in self.class_counts.items() if c < FEW and n not in self.unknown_classes}

    def lines(self) -> list[str]:
        classes = len(self.class_counts)
        height, width = self.median_size
        text = [
            f"{self.origin}: {self.images:,} images (median {width} x {height}), {self.boxes:,} boxes of {classes} "
            f"class{'es' if classes != 1 else ''}, {self.background:,} images without objects"
        ]
        flagged = [
            (self.crowd, "crowd"),
            (self.difficult, "difficult"),
            (self.ignore, "ignore"),
            (self.soft, "pseudo-label"),
        ]
        if any(count for count, _ in flagged):
            text.append("  also " + ", ".join(f"{count:,} {name}" for count, name in flagged if count) + " boxes")
        text += _table(self.class_counts)
        if self.rare:
            names = ", ".join(f"{name} ({count})" for name, count in list(self.rare.items())[:12])
            more = f" and {len(self.rare) - 12} more" if len(self.rare) > 12 else ""
            text.append(f"  fewer than {FEW} boxes: {names}{more}")
        if self.unknown_classes:
            text.append(f"  not annotated here, so never background: {', '.join(self.unknown_classes)}")
        if self.turned_by_exif:
            text.append(f"  {self.turned_by_exif:,} images are turned by EXIF; they are read upright")
        if self.duplicates:
            extra = sum(len(group) - 1 for group in self.duplicates)
            text.append(f"  {extra:,} images are copies of others: {' = '.join(self.duplicates[0][:2])}, ...")
        return text + self.faults.lines()

    def to_dict(self) -> dict[str, Any]:
        plain = ("origin", "images", "boxes", "background", "crowd", "difficult", "ignore", "soft", "turned_by_exif")
        return {
            **{name: getattr(self, name) for name in plain},
            "median_size": list(self.median_size),
            "class_counts": self.class_counts,
            "rare_classes": self.rare,
            "unknown_classes": list(self.unknown_classes),
            "faults": self.faults.to_dict(),
            "duplicates": self.duplicates,
        }


@dataclass(frozen=True)
class Report:
    """What `check` found. data, val: the repaired data sets. shared: images of val that are in train, by how
    found."""

    data: DetectionData = field(repr=False)
    summary: Summary
    val: DetectionData | None = field(default=None, repr=False)
    val_summary: Summary | None = None
    shared: dict[str, list[str]] = field(default_factory=dict)
    coverage: Coverage | None = None

    @property
    def faults(self) -> int:
        """How many things had to be left out or put right, in both data sets, and images in both."""
        held = len(self.val_summary.faults) if self.val_summary else 0
        return len(self.summary.faults) + held + sum(map(len, self.shared.values()))

    def text(self) -> str:
        """The report for people, some ten to forty lines."""
        lines = self.summary.lines()
        if self.val_summary:
            lines += ["", *self.val_summary.lines()]
            for how, files in self.shared.items():
                shown = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
                lines.append(f"{len(files):>8,} validation images are in training ({how}): {shown}")
            if not self.shared:
                lines.append("  no validation image is in training")
        if self.coverage:
            lines += ["", *self.coverage.lines()]
        lines += ["", "nothing wrong was found" if not self.faults else f"{self.faults:,} findings in all"]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "train": self.summary.to_dict(),
            "val": self.val_summary.to_dict() if self.val_summary else None,
            "shared_images": self.shared,
            "anchors": self.coverage.to_dict() if self.coverage else None,
            "findings": self.faults,
        }


def check(
    data: DetectionData,
    val: DetectionData | None = None,
    anchors: np.ndarray | None = None,
    input_size: tuple[int, int] | None = None,
    decode: bool = False,
    content: bool = True,
) -> Report:
    """Looks at every image and box of `data` (and `val`), repairs both, and reports.

    anchors float32 [A, 4] (cxcywh in fractions) with input_size (height, width): adds the share of boxes that no anchor
    can match. decode: decode each image, not only its header. content: compare files to find copies. Raises
    BadDataError where nothing can be trained on: no images, no class, no box.
    """
    if not data.class_names:
        raise BadDataError(f"{data.origin}: no classes, so nothing to learn")
    fixed, summary = _examine(data, decode, content)
    report: dict[str, Any] = {}
    if val is not None:
        if set(match(val.class_names, data.class_names).to) <= {None}:
            raise BadDataError(f"{val.origin}: no class in common with {data.origin}")
        held, held_summary = _examine(val, decode, content)
        report = {"val": held, "val_summary": held_summary, "shared": shared_images(fixed, held, content)}
    reach = coverage(fixed, anchors, input_size) if anchors is not None and input_size is not None else None
    return Report(fixed, summary, coverage=reach, **report)


def clean(data: DetectionData) -> tuple[DetectionData, Report]:
    """The data that can be trained on, and what was wrong with it. See `check`."""
    report = check(data, content=False)
    return report.data, report


def _examine(data: DetectionData, decode: bool, content: bool) -> tuple[DetectionData, Summary]:
    if not len(data):
        raise BadDataError(f"{data.origin}: holds no images")
    headers = read_headers(data, decode)
    fixed, faults = repair(data, headers)
    paths = list(fixed.paths)
    groups = same_files(paths) if content else []
    counts = fixed.class_counts()
    occupied = np.bincount(fixed.owners()[(fixed.flags == 0) & (fixed.labels >= 0)], minlength=len(fixed))
    return fixed, Summary(
        origin=data.origin,
        images=len(fixed),
        boxes=int(fixed.targets.sum()),
        background=int((occupied == 0).sum()),
        crowd=int(((fixed.flags & CROWD) != 0).sum()),
        difficult=int(((fixed.flags & DIFFICULT) != 0).sum()),
        ignore=int(((fixed.flags & IGNORE) != 0).sum()),
        soft=int((fixed.scores < 1).sum()),
        turned_by_exif=int((headers.orientations != 1).sum()),
        median_size=(int(np.median(fixed.sizes[:, 0])), int(np.median(fixed.sizes[:, 1]))),
        class_counts={name: int(count) for name, count in zip(fixed.class_names, counts)},
        unknown_classes=fixed.unknown_classes,
        faults=faults,
        duplicates=[[paths[i] for i in group] for group in groups],
    )


def _table(counts: dict[str, int]) -> Sequence[str]:
    """Classes by count, several to a line."""
    entries = [f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])]
    lines, line = [], " "
    for entry in entries[:40]:
        if len(line) + len(entry) + 2 > 110:
            lines.append(line)
            line = " "
        line += f" {entry},"
    more = f" and {len(entries) - 40} more" if len(entries) > 40 else ""
    return [*lines, line.rstrip(",") + more]
