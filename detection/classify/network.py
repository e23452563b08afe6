"""A classifier from a name or a file, and the network that a training begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backbones import build_classifier
from detection.boxes.class_names import match
from detection.classify.config import ClassifierConfig
from detection.classify.images import middle
from detection.errors import BadWeightsError, MobileSSDError
from detection.weights.backbone import read_backbone
from detection.weights.checkpoint import load_into
from detection.weights.classifier import ClassifierCard, classifier_card, load_classifier
from detection.weights.importers.backbone_weights import BackboneWeights
from detection.weights.importers.recognize import layers_of, recognise
from detection.weights.importers.table import import_classifier
from detection.weights.resolve import resolve

LAST_TAPS = {"mobilenet_v1": ("conv13",), "mobilenet_v2": ("top",)}  # networks that shapes alone tell apart


class Normalised(nn.Module):
    """A classifier that takes images as they are: uint8 or float RGB [N, 3, S, S], 0 to 255 -> logits [N, K]."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[None, :, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images.float() - self.mean) / self.std)


@dataclass
class OpenedClassifier:
    """network: uint8 RGB [N, 3, S, S] -> logits [N, K], in evaluation mode; card: its classes, its input."""

    network: Normalised
    card: ClassifierCard

    @torch.inference_mode()
    def probabilities(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """RGB images uint8 [H, W, 3] of any sizes -> float32 [N, K]. Published files may have a column "background"."""
        views = [middle(image, self.card.input_size, self.card.crop) for image in images]
        batch = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
        return self.network(batch).softmax(1).numpy()


def open_classifier(name_or_path: str) -> OpenedClassifier:
    """A classifier of our own, or a published `.tflite` one, by name or path. Published ones look at the whole image, as
    their runtime does. BadWeightsError, one line, for what is no classifier."""
    path = resolve(name_or_path)
    if classifier_card(path) is not None:
        network, card = load_classifier(path)
    else:
        found = import_classifier(path)
        if found is None:
            raise BadWeightsError(
                f"{name_or_path}: no classifier (a detector, or a backbone alone); `mobilessd classify --train` makes one"
            )
        network, names, contract = found
        columns = network.fc.out_features
        names = names or tuple(f"class {i}" for i in range(columns))
        card = ClassifierCard(
            network.backbone.name, names, {}, contract.size[0], contract.mean, contract.std, 1.0, Path(path).name
        )
    return OpenedClassifier(Normalised(network, card.mean, card.std).eval(), card)


@dataclass
class Beginning:
    """The network of a run and its card; folded: the part whose batch norms are to be rebuilt on the images first."""

    network: nn.Module
    card: ClassifierCard
    said: list[str]
    folded: nn.Module | None = None


def begin(config: ClassifierConfig, class_names: tuple[str, ...]) -> Beginning:
    """Fresh, or with the backbone of `config.weights`; the last layer continues classes of the same name where the weights
    are a classifier of our own, and is fresh otherwise. Raises MobileSSDError, one line."""
    options, model = dict(config.options), config.model
    source = None if config.weights is None else _source(config.weights)
    if model is None:
        if source is None:
            raise MobileSSDError(
                "neither weights nor a model to train; give --weights NAME_OR_FILE or --model BACKBONE"
            )
        model, known = source.model, source.options
        options = known | options
    size = config.input_size or (source.backbone.input.size[0] if source else 224)
    if source is not None:
        options.setdefault("padding", source.backbone.padding)
    if model == "vgg16":
        options.pop("padding", None)
    try:
        network = build_classifier(model, len(class_names), dropout=config.dropout, **options)
    except (ValueError, TypeError) as error:
        raise MobileSSDError(str(error)) from None
    said = [f"network: {model}{_shown(options)}, {len(class_names)} classes, {size}x{size} pixels"]
    mean, std = (source.backbone.input.mean, source.backbone.input.std) if source else ((127.5,) * 3, (127.5,) * 3)
    card = ClassifierCard(model, class_names, options, size, mean, std, config.crop, "trained from scratch")
    if source is None:
        said.append("weights: fresh; on a small data set an ImageNet backbone (--weights) is far better")
        return Beginning(network, card, said)
    said.append(f"weights: backbone from {config.weights}")
    _fill(network.backbone, source, str(config.weights))
    if source.card is not None and source.last is not None:
        said.append(_continue_classes(network, source, class_names))
    folded = network.backbone if source.backbone.folded else None
    return Beginning(network, replace(card, source=f"fine-tuned from {config.weights}"), said, folded)


@dataclass
class _Source:
    """Where a backbone comes from; card, last: of a classifier of our own, its name and its last layers."""

    backbone: BackboneWeights
    model: str
    options: dict[str, Any]
    card: ClassifierCard | None = None
    last: nn.Module | None = None


def _source(name_or_path: str) -> _Source:
    path = resolve(name_or_path)
    if classifier_card(path) is not None:
        network, card = load_classifier(path)
        padding = card.options.get("padding", "same")
        own = BackboneWeights(network.backbone, card.input, padding, folded=False)
        return _Source(own, card.model, dict(card.options), card, network)
    published = read_backbone(name_or_path)
    shapes = [tuple(layer.conv.weight.shape) for layer in layers_of(published.backbone)]
    found = recognise(shapes, LAST_TAPS)
    return _Source(published, published.backbone.name, found.options if found else {})


def _fill(backbone: nn.Module, source: _Source, name: str) -> None:
    """Copies the source's backbone. A detector's backbone may end before a classifier's: what is behind is fresh."""
    theirs, ours = source.backbone.backbone.name, backbone.name
    if theirs != ours:
        raise BadWeightsError(f"{name}: holds a {theirs}, the classifier has a {ours}")
    report = load_into(backbone, source.backbone.backbone.state_dict())
    if report.mismatched or not report.loaded:
        raise BadWeightsError(
            f"{name}: a {theirs} of another width than the classifier's: {report}; give its width with"
            f" --model {ours} --set options.alpha=ALPHA"
        )


@torch.no_grad()
def _continue_classes(network: nn.Module, source: _Source, class_names: tuple[str, ...]) -> str:
    """Rows of the last layer for classes that both know by name; the hidden layer of V3 and V4 as it was."""
    assert source.card is not None and source.last is not None
    old, new = source.last, network
    for part in ("hidden", "fc6", "fc7"):
        theirs, ours = getattr(old, part, None), getattr(new, part, None)
        if theirs is not None and ours is not None and _shapes(theirs) == _shapes(ours):
            ours.load_state_dict(theirs.state_dict())
    last = "fc8" if hasattr(new, "fc8") else "fc"
    theirs, ours = getattr(old, last), getattr(new, last)
    kept = 0
    for row, found in enumerate(match(class_names, source.card.class_names).to):
        if found is not None and theirs.weight.shape[1] == ours.weight.shape[1]:
            ours.weight[row] = theirs.weight[found]
            ours.bias[row] = theirs.bias[found]
            kept += 1
    return f"classes: {kept} continued, {len(class_names) - kept} new"


def _shapes(layer: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in layer.state_dict().items()}


def _shown(options: dict[str, Any]) -> str:
    return "".join(f", {key} {value}" for key, value in options.items() if key in ("alpha", "shallow"))
