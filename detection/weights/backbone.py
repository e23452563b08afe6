"""Published backbones into detectors: of an ImageNet classifier, or of any detector that can be read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.ssd.spec import SSDSpec
from detection.weights.checkpoint import LoadReport, load_into
from detection.weights.classifier import classifier_backbone
from detection.weights.formats import card_of
from detection.weights.importers.backbone_weights import BackboneWeights, change_eps, renormalise
from detection.weights.importers.table import READABLE, import_backbone
from detection.weights.names import load
from detection.weights.resolve import resolve


@dataclass
class BackboneReport(LoadReport):
    """What `load_backbone` did: `LoadReport`, and in `notes` where backbone and detector follow other rules. whole: the
    file holds a detector of the same network, whose extras and heads were passed over."""

    notes: list[str] = field(default_factory=list)
    folded: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return "; ".join([super().__str__(), *self.notes])


def read_backbone(name_or_path: str | os.PathLike) -> BackboneWeights:
    """The backbone of any weights known, by name or path: a classifier (of `mobilessd classify`, .tflite, state dict of
    torchvision or qfgaohao), or any detector that `mobilessd` reads. Raises MobileSSDError otherwise."""
    path = resolve(name_or_path)
    if (own := classifier_backbone(path)) is not None:
        return own
    if card_of(path, READABLE) is None and (found := import_backbone(path)) is not None:
        return found
    ssd, card = load(path)
    return BackboneWeights(ssd.backbone, ssd.spec.input, ssd.spec.padding, card.folded_norms, ssd.spec)


def load_backbone(ssd: SSD, name_or_path: str | os.PathLike) -> BackboneReport:
    """Copies a published backbone's weights, by name or path, into a detector's backbone; extras and heads keep theirs.

    A backbone trained with another normalisation than the detector's (`spec.input`) is converted: the first layer absorbs
    the difference, exactly everywhere but at the image's border, where zero padding now means another grey.
    Raises BadWeightsError, one line, where the backbone is another network or of another width.
    """
    published = read_backbone(name_or_path)
    name, ours = published.backbone.name, ssd.backbone.name
    if name != ours:
        raise BadWeightsError(f"{name_or_path}: holds a {name}, the detector has a {ours}")
    renormalise(published.backbone, published.input, ssd.spec.input)
    change_eps(published.backbone, ssd.spec.norm_eps)
    found = load_into(ssd.backbone, published.backbone.state_dict())
    report = BackboneReport(found.loaded, found.missing, found.unexpected, found.mismatched, folded=published.folded)
    report.whole = published.detector is not None and _same_network(published.detector, ssd.spec)
    if report.mismatched or not report.loaded:
        raise BadWeightsError(
            f"{name_or_path}: a {name} of another width than the detector's (alpha, min_depth): {report}"
        )
    if published.padding != ssd.spec.padding and name != "vgg16":
        report.notes.append(
            f"trained with {published.padding} padding, the detector pads {ssd.spec.padding}: fine-tune it"
        )
    return report


def _same_network(one: SSDSpec, other: SSDSpec) -> bool:
    """Whether two detectors differ at most in classes, input and anchors' places."""
    return all(
        getattr(one, name) == getattr(other, name) for name in ("backbone", "taps", "extras", "heads", "pyramid")
    )
