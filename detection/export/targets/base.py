"""What a target's writer is given, and what it says of what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detection.export.calibration import calibration_images
from detection.postprocessor import PostProcessor
from detection.ssd.spec import SSDSpec
from detection.weights.card import Card
from detection.weights.resolve import Weights

if TYPE_CHECKING:
    from detection.ssd.network import SSD

OPSETS = (11, 13, 17)
IOU = 0.6  # of NMS inside a graph, as everywhere here


@dataclass(frozen=True)
class Options:
    """gpu: the form for a graphics processor, where a system has two. opset: of ONNX's operators; None: the target's own."""

    gpu: bool = False
    opset: int | None = None


PLAIN = Options()


@dataclass(frozen=True)
class Job:
    """folder: where the files go, empty. source: what is exported. ssd: its network, None for an exported file. anchors:
    `cxcywh` float32 [A, 4] in fractions. calibration: a folder of images, for targets that measure ranges."""

    folder: Path
    source: Weights
    ssd: SSD | None
    spec: SSDSpec
    anchors: np.ndarray
    options: Options
    calibration: Path | None = None

    @property
    def network(self) -> SSD:
        """The network; for targets that take no exported file."""
        assert self.ssd is not None
        return self.ssd

    def card(self, interface: str) -> Card:
        """The card of a file that is fed and read as `runtimes.interfaces` says under this name."""
        return replace(self.source.card, interface=interface)

    def calibration_images(self) -> np.ndarray:
        """uint8 RGB [N, h, w, 3] of the folder; MobileSSDError, one line, where they are too few."""
        assert self.calibration is not None
        return calibration_images(self.calibration, self.spec.input.size)

    def labels(self, background: str | None = None) -> str:
        """The names of the classes, one a line. background: stands before them."""
        lines = [background] if background else []
        return "\n".join([*lines, *(" ".join(name.split()) for name in self.source.card.class_names)]) + "\n"

    def put(self, name: str, content: str | Mapping[str, Any]) -> None:
        """Writes a text of the folder, or an object as JSON."""
        text = content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"
        (self.folder / name).write_text(text, encoding="utf-8")

    @property
    def opset(self) -> int:
        return self.options.opset or 13


@dataclass(frozen=True)
class Written:
    """model: the file that `Detector` reads back, in the folder. about: lines of the README: its input and outputs, and what
    to do with it. max_detections: as many boxes as it gives of an image. background: labels.txt begins with a line for
    it, named so. rules: of our post-processing makes the system's own, where that is another one."""

    model: str
    about: tuple[str, ...]
    max_detections: int = 100
    background: str | None = None
    rules: Callable[[PostProcessor], PostProcessor] | None = None
