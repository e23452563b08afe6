"""`mobilessd info --anchors`: which boxes of a data set a network's anchors can match, and what would help."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from backbones.shapes import shapes_only
from detection.cli.info_model import Subject
from detection.data.check import clean
from detection.data.coverage import Coverage, coverage
from detection.data.open import open_data
from detection.errors import MobileSSDError
from detection.ssd.families import FAMILIES, STRIDE_8, USUAL_TAPS, options_of
from detection.ssd.network import anchors_of, build
from detection.ssd.spec import SSDSpec
from detection.weights.names import spec_for

LARGER = (320, 416, 512)  # inputs that are tried beside the network's own
SAMPLE = 4000  # boxes by which the alternatives are compared


@dataclass(frozen=True)
class Alternative:
    """Another form of the same network: what it is called, its anchors, the share of boxes that they reach."""

    name: str
    anchors: int
    reached: float


@dataclass(frozen=True)
class Reach:
    """What the network reaches; and other inputs or a further tap, all measured on the same sample of the boxes."""

    coverage: Coverage
    alternatives: tuple[Alternative, ...]

    def lines(self) -> list[str]:
        """For people."""
        wide = max(len(one.name) for one in self.alternatives)
        rows = [f"    {one.name:<{wide}}{one.anchors:>10,} anchors{one.reached:>9.1%}" for one in self.alternatives]
        return [*self.coverage.lines(), "  reached by other forms of this network", *rows]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.coverage.to_dict() | {"alternatives": [vars(one) for one in self.alternatives]}


def reach(subject: Subject, path: str, split: str | None = None, images: str | None = None) -> Reach:
    """Reads the data set, puts right what is wrong with it, and compares its boxes with the anchors.

    MobileSSDError, one line, where the model is no detector or the data cannot be read.
    """
    if subject.spec is None:
        raise MobileSSDError(f"{subject.name}: a classifier has no anchors; --anchors needs a detector")
    data, _ = clean(open_data(path, split, images=images))
    for line in data.faults.brief():
        print(f"warning: {path}: {line}", file=sys.stderr)
    found = coverage(data, _anchors(subject.spec), subject.spec.input.size)
    others = []
    for name, spec in _forms(subject):
        anchors = _anchors(spec)
        others.append(
            Alternative(name, len(anchors), coverage(data, anchors, spec.input.size, most=SAMPLE).total.reached)
        )
    return Reach(found, tuple(others))


def _forms(subject: Subject) -> list[tuple[str, SSDSpec]]:
    """The network itself, with larger inputs, and, where it is known by name, with a tap at stride 8."""
    assert subject.spec is not None
    size = subject.spec.input.size
    forms = [("as it is", subject.spec)]
    fine = _with_stride_8(subject)
    if fine is not None:
        forms.append(("with stride8", fine))
    larger = [side for side in LARGER if side > max(size)]
    forms += [(f"input {side}", subject.spec.with_input_size(side)) for side in larger]
    if fine is not None and larger:
        forms.append((f"with stride8, input {larger[-1]}", fine.with_input_size(larger[-1])))
    return forms


def _with_stride_8(subject: Subject) -> SSDSpec | None:
    """The same architecture with a further, finer map; None where it has one already, or has no such option."""
    spec = subject.spec
    name = subject.record.architecture if subject.record else subject.name
    if spec is None or name not in FAMILIES or "stride8" not in options_of(FAMILIES[name]):
        return None
    if tuple(spec.taps) != USUAL_TAPS[spec.backbone] or spec.anchors.layout not in ("tensorflow", "torchvision"):
        return None
    assert spec.backbone in STRIDE_8
    return spec_for(
        name,
        alpha=spec.backbone_options.get("alpha", 1.0),
        input_size=spec.input.size,
        num_classes=spec.num_classes,
        layout=spec.anchors.layout,
        stride8=True,
    )


def _anchors(spec: SSDSpec) -> np.ndarray:
    """float32 [A, 4] of a network that is never filled with weights."""
    with shapes_only():
        return anchors_of(build(spec))
