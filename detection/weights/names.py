"""Names -> networks. A bare name (`ssdlite_mobilenet_v2`) is an architecture; a name with a recipe
(`ssdlite_mobilenet_v2.coco`) has weights. Wherever a name is taken, a path is taken too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from detection.errors import BadWeightsError
from detection.ssd.families import architecture, list_architectures
from detection.ssd.spec import SSDSpec
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint
from detection.weights.importers.table import need_torch
from detection.weights.records import find_record, list_weights
from detection.weights.resolve import open_weights

if TYPE_CHECKING:
    from detection.ssd.network import SSD


def list_models() -> tuple[str, ...]:
    """Every name that may stand where a model is asked for: the architectures of detectors, which can be trained and
    counted (`list_architectures`), then the names with published weights (`list_weights`), which also detect."""
    return (*list_architectures(), *list_weights())


def spec_for(name: str, **options: Any) -> SSDSpec:
    """The network of a detector by name; options as in `detection.ssd.families.architecture`.

    A name with a recipe (`ssd_mobilenet_v1_075.coco`) is the network of those weights; options given win.
    Raises MobileSSDError, one line with the nearest right words, for an unknown name or option, or a wrong value.
    """
    record = find_record(name)
    if record is not None and record.task == "detector":
        name, options = record.architecture, record.options | options
    return architecture(name, **options)


def load(name_or_path: str | os.PathLike) -> tuple[SSD, Card]:
    """A detector's network, in eval mode, and its card, by name or path. Needs torch.

    Raises MobileSSDError, one line, where there are no such weights, and for an exported file (.onnx, .xml), which is no
    network any more.
    """
    weights = open_weights(name_or_path)
    if weights.exported:
        raise BadWeightsError(
            f"{weights.path}: an exported file runs as it is (Detector), it cannot become a network again"
        )
    need_torch(name_or_path)
    return load_checkpoint(weights.path)
