"""torchvision's state dicts -> networks of ours: ssdlite320_mobilenet_v3_large, ssd300_vgg16, and backbones.

Which network it is, and how many classes it has, is read from the tensors. `import_torchvision_state` makes a detector;
`backbone_of_state` finds MobileNet V2, V3 and VGG-16 classifiers, whose backbones start a training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from backbones import build_backbone
from backbones.blocks import InvertedResidual
from detection.errors import BadWeightsError
from detection.ssd.families import ssd300_vgg16, ssdlite_mobilenet_v3_large
from detection.ssd.network import SSD, build, feature_maps
from detection.ssd.spec import SSDSpec
from detection.weights.card import Card
from detection.weights.importers.backbone_weights import IMAGENET, BackboneWeights, first_fitting
from detection.weights.importers.labels import class_list, object_labels
from detection.weights.importers.state_dicts import Pair, copy_into, rows

State = Mapping[str, Tensor]
HEADS = "head.classification_head.module_list"
LITE = f"{HEADS}.0.1.weight"
VGG = "backbone.scale_weight"
# Where VGG-16's convolutions stand in torchvision's Sequential, and in SSD300's two of them.
VGG_LAYERS = {
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12, "conv3_3": 14,
    "conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24, "conv5_2": 26, "conv5_3": 28,
}  # fmt: skip


def is_torchvision(state: State) -> bool:
    """Whether these are the keys of one of torchvision's SSDs."""
    return LITE in state or (VGG in state and f"{HEADS}.0.weight" in state)


def import_torchvision_state(
    state: State, file: str = "state dict", labels: list[str] | None = None
) -> tuple[SSD, Card]:
    """A state dict of torchvision's ssdlite320_mobilenet_v3_large (either tail) or ssd300_vgg16 -> (network, card).

    The class count is read from the tensors; 90 classes are COCO's. labels: the names, if known, background left out or
    first. Raises BadWeightsError, one line, for anything that is neither network or does not fit to the last tensor.
    """
    if not is_torchvision(state):
        raise BadWeightsError(f"{file}: no SSD of torchvision ({_some(state)})")
    spec = _spec_of_ssdlite(state, file) if LITE in state else _spec_of_vgg(state, file)
    ssd = build(spec)
    pairs = _pairs_of_ssdlite(ssd) if LITE in state else _pairs_of_vgg(ssd)
    if VGG in state:
        state = dict(state) | {"backbone.scale.weight": state[VGG]}
        del state[VGG]
    copy_into(ssd, pairs, state, file)
    names, ids = class_list(spec.num_classes, object_labels(labels, spec.num_classes + 1))
    card = Card(spec.to_dict(), names, ids, feature_maps(ssd), source=file)
    if spec.num_classes == 90:
        card.licence, card.attribution = "BSD-3-Clause", "torchvision contributors"
    return ssd.eval(), card


def _spec_of_ssdlite(state: State, file: str) -> SSDSpec:
    columns, top = rows(state, LITE, file) // 6, "backbone.features.1.3.0.weight"
    reduced = top not in state or rows(state, top, file) == 480
    return ssdlite_mobilenet_v3_large(num_classes=columns - 1, layout="torchvision", reduced_tail=reduced)


def _spec_of_vgg(state: State, file: str) -> SSDSpec:
    heads = [name for i in range(len(state)) if (name := f"{HEADS}.{i}.weight") in state]
    if len(heads) != 6:
        raise BadWeightsError(f"{file}: an SSD on VGG-16 with {len(heads)} maps; torchvision's SSD300 has 6")
    return ssd300_vgg16(num_classes=rows(state, heads[0], file) // 4 - 1, layout="torchvision")


def _pairs_of_ssdlite(ssd: SSD) -> Iterator[Pair]:
    first, last = "backbone.features.0", "backbone.features.1"
    yield Pair("backbone.stem", f"{first}.0.0", f"{first}.0.1")
    for i, block in enumerate(_blocks(ssd.backbone)):
        number, ours = i + 1, f"backbone.blocks.{i}"
        if number < 13:
            yield from _v3_block(block, ours, f"{first}.{number}.block", 0)
        elif number == 13:  # cut in two at its expansion, which is the first tap
            yield Pair(f"{ours}.expand", f"{first}.13.0", f"{first}.13.1")
            yield from _v3_block(block, ours, f"{last}.0", 1, expand=False)
        else:
            yield from _v3_block(block, ours, f"{last}.{number - 13}.block", 0)
    yield Pair("backbone.top", f"{last}.3.0", f"{last}.3.1")
    for i in range(len(ssd.extras)):
        for k in range(3):
            yield Pair(f"extras.{i}.{k}", f"backbone.extra.{i}.{k}.0", f"backbone.extra.{i}.{k}.1")
    for branch, theirs in (("score", "classification"), ("box", "regression")):
        for i in range(len(list(ssd.heads))):
            name = f"head.{theirs}_head.module_list.{i}"
            yield Pair(f"heads.{i}.{branch}.0", f"{name}.0.0", f"{name}.0.1")
            yield Pair(f"heads.{i}.{branch}.1", f"{name}.1")


def _pairs_of_vgg(ssd: SSD) -> Iterator[Pair]:
    for name, at in VGG_LAYERS.items():
        conv5 = name.startswith("conv5")  # conv5_1..3 lie behind a pool in the first extra
        yield Pair(f"backbone.{name}", f"backbone.extra.0.{at - 23}" if conv5 else f"backbone.features.{at}")
    yield Pair("backbone.fc6", "backbone.extra.0.7.1")
    yield Pair("backbone.fc7", "backbone.extra.0.7.3")
    yield Pair("backbone.conv4_3_norm", "backbone.scale")
    for i in range(len(ssd.extras)):
        for k in range(2):
            yield Pair(f"extras.{i}.{k}", f"backbone.extra.{i + 1}.{2 * k}")
    for branch, theirs in (("score", "classification"), ("box", "regression")):
        for i in range(len(list(ssd.heads))):
            yield Pair(f"heads.{i}.{branch}", f"head.{theirs}_head.module_list.{i}")


def _blocks(backbone: nn.Module) -> list[InvertedResidual]:
    return [module for module in backbone.modules() if isinstance(module, InvertedResidual)]


def _v3_block(block: InvertedResidual, ours: str, theirs: str, at: int, expand: bool = True) -> Iterator[Pair]:
    """An inverted residual: expansion, depthwise, gate, projection, numbered from `at` where they exist."""
    if expand and block.expand is not None:
        yield Pair(f"{ours}.expand", f"{theirs}.{at}.0", f"{theirs}.{at}.1")
        at += 1
    yield Pair(f"{ours}.depthwise", f"{theirs}.{at}.0", f"{theirs}.{at}.1")
    if block.gate is not None:
        at += 1
        yield Pair(f"{ours}.gate.fc1", f"{theirs}.{at}.fc1")
        yield Pair(f"{ours}.gate.fc2", f"{theirs}.{at}.fc2")
    yield Pair(f"{ours}.project", f"{theirs}.{at + 1}.0", f"{theirs}.{at + 1}.1")


def backbone_of_state(state: State, file: str) -> BackboneWeights | None:
    """The backbone of a MobileNet V2, V3 or VGG-16 classifier of torchvision, filled; None if it is none. Its classifier
    is left out."""
    found = _backbone(state, file)
    return None if found is None else BackboneWeights(found[0], IMAGENET, "symmetric", folded=found[1])


def _backbone(state: State, file: str) -> tuple[nn.Module, bool] | None:
    """The filled backbone, and whether its norms were folded."""
    features = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
    if "features.1.conv.0.0.weight" in features:
        return _fitted("mobilenet_v2", ({"scale_top": False}, {"scale_top": True}), 1e-5, features, file)
    if "features.1.block.0.0.weight" in features:
        name = "mobilenet_v3_large" if "features.16.0.weight" in features else "mobilenet_v3_small"
        return _fitted(name, ({"reduced_tail": False}, {"reduced_tail": True}), 1e-3, features, file)
    if "features.28.weight" in features:
        backbone = build_backbone("vgg16", ["conv5_3"], l2_norm=False)
        return backbone, copy_into(
            backbone, [Pair(name, f"features.{at}") for name, at in VGG_LAYERS.items()], features, file
        )
    return None


def _fitted(name: str, variants: tuple[dict, ...], eps: float, state: State, file: str) -> tuple[nn.Module, bool]:
    rules = {"min_depth": 8, "padding": "symmetric", "norm_eps": eps}
    pairs = _pairs_of_v2 if name == "mobilenet_v2" else _pairs_of_v3
    return first_fitting(name, [rules | one for one in variants], state["features.0.0.weight"], pairs, state, file)


def _pairs_of_v2(backbone: nn.Module) -> Iterator[Pair]:
    yield Pair("stem", "features.0.0", "features.0.1")
    blocks = _blocks(backbone)
    for i, block in enumerate(blocks):
        theirs, at = f"features.{i + 1}.conv", 0
        if block.expand is not None:
            yield Pair(f"blocks.{i}.expand", f"{theirs}.0.0", f"{theirs}.0.1")
            at = 1
        yield Pair(f"blocks.{i}.depthwise", f"{theirs}.{at}.0", f"{theirs}.{at}.1")
        yield Pair(f"blocks.{i}.project", f"{theirs}.{at + 1}", f"{theirs}.{at + 2}")
    yield Pair("top", f"features.{len(blocks) + 1}.0", f"features.{len(blocks) + 1}.1")


def _pairs_of_v3(backbone: nn.Module) -> Iterator[Pair]:
    yield Pair("stem", "features.0.0", "features.0.1")
    blocks = _blocks(backbone)
    for i, block in enumerate(blocks):
        yield from _v3_block(block, f"blocks.{i}", f"features.{i + 1}.block", 0)
    yield Pair("top", f"features.{len(blocks) + 1}.0", f"features.{len(blocks) + 1}.1")


def _some(state: State) -> str:
    names = list(state)
    return f"its {len(names)} tensors begin with {', '.join(names[:3])}"
