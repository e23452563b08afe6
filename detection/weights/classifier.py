"""Classifiers of our own: a safetensors file whose header says which network it is and what its classes are called."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from detection.config import Positive, Share, build, plain
from detection.errors import BadWeightsError, MobileSSDError, shown
from detection.files import atomic_write
from detection.ssd.spec import InputSpec
from detection.weights.card_files import safetensors_metadata
from detection.weights.importers.backbone_weights import BackboneWeights

if TYPE_CHECKING:
    from backbones import Classifier
    from backbones.classifier import VGGClassifier

KEY = "classifier"  # of the header


@dataclass(frozen=True)
class ClassifierCard:
    """What a classifier's file says about itself.

    model, options: what `build_classifier(model, len(class_names), **options)` needs. class_names: in the order of the
    columns. input_size, mean, std: [R, G, B] pixels (x - mean) / std of a square of that side. crop: the share of the
    shorter side that evaluation looks at, from the middle. metrics: each with its data and number of images.
    """

    model: str
    class_names: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    input_size: Annotated[int, Meta(ge=1, le=4096)] = 224
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    crop: Share = 0.875
    source: str = ""
    metrics: tuple[dict[str, Any], ...] = ()
    format: Positive = 1

    @property
    def input(self) -> InputSpec:
        return InputSpec((self.input_size, self.input_size), self.mean, self.std)


def save_classifier(path: str | os.PathLike, state: dict[str, Any], card: ClassifierCard) -> None:
    """Writes a classifier's state dict and its card, atomically. MobileSSDError where the disk does not take it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    try:
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, {KEY: json.dumps(plain(asdict(card)))})
    except (OSError, SafetensorError) as error:
        raise MobileSSDError(f"{path}: cannot be written ({error})") from error


def classifier_card(path: str | os.PathLike) -> ClassifierCard | None:
    """The card of a classifier's file; None for a file that has none. BadWeightsError, one line, for a wrong one."""
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return None
    try:
        text = safetensors_metadata(Path(path)).get(KEY)
    except BadWeightsError:
        return None  # whoever reads weights of all kinds says what is wrong with it
    if text is None:
        return None
    try:
        return build(ClassifierCard, json.loads(text), "")
    except (ValueError, RecursionError, MobileSSDError) as error:
        raise BadWeightsError(f"{path}: its classifier card is wrong ({shown(str(error))})") from None


def load_classifier(path: str | os.PathLike) -> tuple[Classifier | VGGClassifier, ClassifierCard]:
    """The network of a classifier's file, in evaluation mode, and its card. Shapes are compared before anything is built
    with values. BadWeightsError, one line, for a file that is none or does not fit its own card."""
    from backbones import build_classifier
    from backbones.shapes import shapes_only
    from detection.weights.checkpoint import filled, load_tensors

    card = classifier_card(path)
    if card is None:
        raise BadWeightsError(f"{path}: no classifier of mobilessd (no card of one in its header)")
    tensors = load_tensors(path)
    try:
        with shapes_only():
            network = build_classifier(card.model, len(card.class_names), **card.options)
    except Exception as error:  # whatever a builder makes of options that may be anybody's
        raise BadWeightsError(f"{path}: its classifier card is wrong ({shown(str(error))})") from None
    needed = {name: tuple(t.shape) for name, t in network.state_dict().items() if not name.endswith("tracked")}
    if needed != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise BadWeightsError(f"{path}: its tensors are not those of a {card.model} with the options of its card")
    return filled(network, tensors).eval(), card


def classifier_backbone(path: str | os.PathLike) -> BackboneWeights | None:
    """The backbone of a classifier's file, for a detector; None for another file."""
    card = classifier_card(path)
    if card is None:
        return None
    network, _ = load_classifier(path)
    padding = card.options.get("padding", "symmetric" if card.model == "vgg16" else "same")
    return BackboneWeights(network.backbone, card.input, padding, folded=False)
