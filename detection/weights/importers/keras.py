"""Keras' MobileNet classifiers (keras.applications, V1 and V2) -> backbones of ours, from an HDF5 file, read by h5py.

Any form in which Keras writes HDF5 is read: weights alone or a whole model (`.h5` of Keras 2 and 3), and Keras 3's
`.weights.h5`; the MobileNet may be a layer of a larger model. Layers are found by the names that keras.applications gives
them. Nothing in the file is run, and no other file is opened for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.ssd.spec import InputSpec
from detection.weights.card import Card
from detection.weights.importers.backbone_weights import BackboneWeights, first_fitting
from detection.weights.importers.state_dicts import Pair

MOST_ENTRIES = 20_000  # of a file; a MobileNet's has 600
_NORM = ("weight", "bias", "running_mean", "running_var")
_PARTS = {  # how a layer's numbers are called -> as PyTorch calls them
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_LAYERS = {  # the names that layers of the two backbones have
    "mobilenet_v1": re.compile(r"conv1(_bn)?|conv_[dp]w_\d+(_bn)?"),
    "mobilenet_v2": re.compile(
        r"Conv1|bn_Conv1|Conv_1(_bn)?|(expanded_conv|block_\d+)_(expand|depthwise|project)(_BN)?"
    ),
}
_FIRST = {"mobilenet_v1": "conv1", "mobilenet_v2": "Conv1"}
_SEEN = {"mobilenet_v1": "conv_pw_1.weight", "mobilenet_v2": "expanded_conv_depthwise.weight"}


def import_keras(path: Path) -> tuple[SSD, Card]:
    """There are no detectors in Keras' files that are known here: raises BadWeightsError, one line."""
    import_backbone(path)
    raise BadWeightsError(f"{path}: a classifier, no detector; `mobilessd train --weights` begins with its backbone")


def import_backbone(path: Path) -> BackboneWeights:
    """The backbone of keras.applications' MobileNet or MobileNetV2 in a file of Keras, filled; its classifier is left out.
    Raises BadWeightsError, one line, for other networks, and for numbers that lie in other files."""
    layers = _read(path)
    name = next((name for name, layer in _SEEN.items() if layer in layers), None)
    if name is None:
        raise BadWeightsError(f"{path}: Keras' weights, but of no MobileNet or MobileNetV2 of keras.applications")
    own = {key: tensor for key, tensor in layers.items() if _LAYERS[name].fullmatch(key.rpartition(".")[0])}
    stem = own.get(f"{_FIRST[name]}.weight")
    if stem is None:
        raise BadWeightsError(f"{path}: {_FIRST[name]} is missing")
    rules: dict[str, Any] = {"min_depth": 8, "padding": "same", "norm_eps": 1e-3}
    pairs = _pairs_of_v1 if name == "mobilenet_v1" else _pairs_of_v2
    backbone, folded = first_fitting(name, [rules], stem, pairs, own, str(path))
    return BackboneWeights(backbone, InputSpec((224, 224)), "same", folded)


def _read(path: Path) -> dict[str, Tensor]:
    """All numbers of a file's layers by "layer.part", in PyTorch's order of axes."""
    import h5py

    found: dict[str, Tensor] = {}
    seen = numbers = 0
    size = path.stat().st_size

    def visit(name: str, entry: Any) -> None:  # h5py follows no link for it
        nonlocal seen, numbers
        seen += 1
        if seen > MOST_ENTRIES:
            raise BadWeightsError(f"{path}: holds more than {MOST_ENTRIES:,} entries, which no MobileNet does")
        if not isinstance(entry, h5py.Dataset) or name.startswith("optimizer"):
            return
        place = _place(name, entry)
        if place is None or entry.ndim not in (1, 4) or entry.dtype.kind != "f":
            return
        if entry.external or entry.is_virtual:
            raise BadWeightsError(f"{path}: {name} lies in another file, which was not opened")
        numbers += entry.size
        if numbers > size:
            raise BadWeightsError(f"{path}: more numbers than its {size:,} bytes hold, which no weights are")
        layer, part = place
        array = np.asarray(entry[()], np.float32)
        if array.ndim == 4:  # height, width, in, out; of a depthwise layer the channels are in the third place
            depthwise = "_dw_" in layer or layer.endswith("_depthwise")
            array = array.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        found[f"{layer}.{part}"] = torch.from_numpy(np.ascontiguousarray(array))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except OSError:  # whatever HDF5 meets in bytes that may be anybody's
        raise BadWeightsError(f"{path}: cut short or damaged; fetch it again") from None
    return found


def _place(name: str, entry: Any) -> tuple[str, str] | None:
    """The layer and part that an array is: `conv1/conv1/kernel:0`, or number 0 of a group that says which layer it is."""
    group, _, last = name.rpartition("/")
    last = last.removesuffix(":0")
    if last.isdigit() and group.rpartition("/")[2] == "vars":
        layer = entry.parent.attrs.get("name", "")
        layer = layer.decode(errors="replace") if isinstance(layer, bytes) else str(layer)
        number = int(last)
        return (layer, _NORM[number]) if number < len(_NORM) else None
    part = _PARTS.get(last)
    return None if part is None else (group.rpartition("/")[2], part)


def _pairs_of_v1(backbone: nn.Module) -> Iterator[Pair]:
    yield Pair("conv0", "conv1", "conv1_bn")
    for i in range(1, 14):
        for ours, theirs in (("depthwise", "conv_dw"), ("pointwise", "conv_pw")):
            yield Pair(f"blocks.{i - 1}.{ours}", f"{theirs}_{i}", f"{theirs}_{i}_bn")


def _pairs_of_v2(backbone: nn.Module) -> Iterator[Pair]:
    yield Pair("stem", "Conv1", "bn_Conv1")
    for i, block in enumerate(backbone.blocks):  # type: ignore[arg-type]
        theirs = f"block_{i}" if i else "expanded_conv"
        for part in ("expand", "depthwise", "project"):
            if getattr(block, part) is not None:
                yield Pair(f"blocks.{i}.{part}", f"{theirs}_{part}", f"{theirs}_{part}_BN")
    yield Pair("top", "Conv_1", "Conv_1_bn")
