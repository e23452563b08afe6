"""One function for each kind of published file: path -> (network, card). Loading runs no code of the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from detection.core.card import Card
from detection.core.errors import BadWeightsError

if TYPE_CHECKING:
    from detection.ssd.network import SSD

ZOO_LICENCE = "Apache-2.0"


def import_tflite(path: str | os.PathLike) -> tuple[SSD, Card]:
    """A TensorFlow Lite SSD MobileNet, quantised or float."""
    from detection.weights.assemble import assemble
    from detection.weights.tflite import read_tflite

    ssd, card = assemble(read_tflite(path))
    card.source = Path(path).name
    return ssd, card


def import_tfjs(path: str | os.PathLike) -> tuple[SSD, Card]:
    """A TensorFlow.js graph model of the TF detection zoo: the folder, or its model.json."""
    from detection.weights.assemble import assemble
    from detection.weights.tfjs import read_tfjs

    ssd, card = assemble(read_tfjs(path))
    return ssd, card


def import_state_dict(path: str | os.PathLike) -> tuple[SSD, Card]:
    """A PyTorch state dict (.pth) of torchvision or qfgaohao, read with `weights_only`, so that no code can run."""
    raise BadWeightsError(f"{path}: state dicts are not read yet; save the tensors with safetensors and a card")
