"""One function for each kind of published file: path -> (network, card). Loading runs no code of the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from detection.errors import BadWeightsError
from detection.weights.card import Card

if TYPE_CHECKING:
    from detection.ssd.network import SSD


def import_tflite(path: str | os.PathLike) -> tuple[SSD, Card]:
    """A TensorFlow Lite SSD MobileNet, quantised or float."""
    from detection.weights.importers.assemble import assemble
    from detection.weights.importers.tflite import read_tflite

    ssd, card = assemble(read_tflite(Path(path)))
    card.source = Path(path).name
    return ssd, card


def import_tfjs(path: str | os.PathLike) -> tuple[SSD, Card]:
    """A TensorFlow.js graph model of the TF detection zoo: the folder, or its model.json."""
    from detection.weights.importers.assemble import assemble
    from detection.weights.importers.tfjs import read_tfjs

    ssd, card = assemble(read_tfjs(Path(path)))
    return ssd, card


def import_state_dict(path: str | os.PathLike) -> tuple[SSD, Card]:
    """A detector of torchvision or of qfgaohao/jetson-inference from a `.pth`, `.pt` or card-less `.safetensors` file.

    Which network it is and how many classes it has is read from the tensors; names from a labels.txt beside the file.
    Nothing in the file is run: one that holds code or objects is refused.
    """
    from detection.weights.importers.flatbuffer import labels_of
    from detection.weights.importers.qfgaohao import import_qfgaohao_state, is_qfgaohao
    from detection.weights.importers.state_dicts import read_state_dict
    from detection.weights.importers.torchvision import import_torchvision_state, is_torchvision

    path = Path(path)
    state, labels = read_state_dict(path), labels_of(path)
    if is_torchvision(state):
        ssd, card = import_torchvision_state(state, str(path), labels)
    elif is_qfgaohao(state):
        ssd, card = import_qfgaohao_state(state, str(path), labels)
    else:
        raise BadWeightsError(
            f"{path}: no SSD of torchvision or pytorch-ssd, and no card that says what it is "
            f"({len(state)} tensors: {', '.join(list(state)[:3])}, ...)"
        )
    card.source = path.name
    return ssd, card
