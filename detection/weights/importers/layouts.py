"""State dicts of others: whose names the tensors have, one row a project. `detection.weights.importers.table` calls this
for files of tensors without a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.weights.card import Card
from detection.weights.importers import qfgaohao, timm, torchvision
from detection.weights.importers.backbone_weights import BackboneWeights
from detection.weights.importers.labels import labels_of
from detection.weights.importers.state_dicts import read_state_dict, views

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One project's state dicts. is_detector: whether these are the keys of one of its detectors. detector: tensors, the
    file's name, class names or None -> network and card. backbone: tensors, the file's name -> the backbone of one of its
    classifiers, or None where the tensors are none."""

    name: str
    is_detector: Callable[[State], bool]
    detector: Callable[[State, str, list[str] | None], tuple[SSD, Card]]
    backbone: Callable[[State, str], BackboneWeights | None]


LAYOUTS = (
    Layout(
        "torchvision", torchvision.is_torchvision, torchvision.import_torchvision_state, torchvision.backbone_of_state
    ),
    Layout("pytorch-ssd", qfgaohao.is_qfgaohao, qfgaohao.import_qfgaohao_state, qfgaohao.backbone_of_state),
)
BACKBONES = (*(layout.backbone for layout in LAYOUTS), timm.backbone_of_state)


def import_state_dict(path: Path) -> tuple[SSD, Card]:
    """A detector from a `.pth`, `.pt` or card-less `.safetensors` file.

    Which network it is and how many classes it has is read from the tensors; names from a labels.txt beside the file.
    Nothing in the file is run: one that holds code or objects is refused.
    """
    state = read_state_dict(path)
    if found := _detector_in(state):
        layout, part = found
        return layout.detector(part, str(path), labels_of(path))
    if import_backbone(path) is not None:
        raise BadWeightsError(
            f"{path}: a classifier, no detector; `mobilessd train --weights` begins with its backbone"
        )
    raise BadWeightsError(
        f"{path}: no SSD of {' or '.join(layout.name for layout in LAYOUTS)}, and no card that says what it is "
        f"({len(state)} tensors: {', '.join(list(state)[:3])}, ...)"
    )


def import_backbone(path: Path) -> BackboneWeights | None:
    """The backbone of a classifier's state dict; None if it is no classifier of a known project."""
    state = read_state_dict(path)
    if _detector_in(state):
        return None
    for part in views(state):
        for backbone_of in BACKBONES:
            try:
                if (backbone := backbone_of(part, str(path))) is not None:
                    return backbone
            except BadWeightsError:
                if part is state:
                    raise  # a part that looks like one may be of any other network
    return None


def _detector_in(state: State) -> tuple[Layout, State] | None:
    """The project whose detector a state dict holds, and the tensors under the names that it gives them."""
    return next(((layout, part) for part in views(state) for layout in LAYOUTS if layout.is_detector(part)), None)
