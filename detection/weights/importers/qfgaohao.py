"""State dicts of qfgaohao/pytorch-ssd and jetson-inference <-> networks of ours: mb1-ssd, mb1-ssd-lite, mb2-ssd-lite,
vgg16-ssd.

The most common SSD files in the wild. They store neither classes nor input nor anchors: the class count is read from
the tensors, names from a labels.txt beside the file (its first line BACKGROUND), the rest is alike in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from torch import Tensor, nn

from backbones import build_backbone
from backbones.blocks import InvertedResidual
from detection.boxes.class_names import VOC_20
from detection.errors import BadWeightsError
from detection.ssd.families import ssd300_vgg16, ssd_mobilenet_v1, ssdlite_mobilenet_v1, ssdlite_mobilenet_v2
from detection.ssd.network import SSD, build, feature_maps
from detection.ssd.spec import InputSpec, SSDSpec
from detection.weights.card import Card
from detection.weights.importers.backbone_weights import BackboneWeights
from detection.weights.importers.labels import class_list, object_labels
from detection.weights.importers.recognize import ALPHAS
from detection.weights.importers.state_dicts import Pair, copy_into, copy_out, rows
from detection.weights.importers.torchvision import VGG_LAYERS

State = Mapping[str, Tensor]
HEADER = "classification_headers.0"
VGG_NORM = "source_layer_add_ons.0"  # behind conv4_3
PER_CELL, PER_CELL_OF_VGG = 6, 4  # anchors on the first map
INPUT = InputSpec(mean=(127.0,) * 3, std=(128.0,) * 3)
KINDS: dict[str, Callable[..., SSDSpec]] = {  # by the name that train_ssd.py's --net knows them by
    "mb1-ssd": ssd_mobilenet_v1,
    "mb1-ssd-lite": ssdlite_mobilenet_v1,
    "mb2-ssd-lite": ssdlite_mobilenet_v2,
    "vgg16-ssd": ssd300_vgg16,
}


def is_qfgaohao(state: State) -> bool:
    """Whether these are the keys of one of `KINDS`."""
    return (_is_vgg(state) or "base_net.0.0.weight" in state) and any(name.startswith(HEADER) for name in state)


def _is_vgg(state: State) -> bool:
    return "base_net.0.weight" in state and f"{VGG_NORM}.weight" in state


def import_qfgaohao_state(state: State, file: str = "state dict", labels: list[str] | None = None) -> tuple[SSD, Card]:
    """A state dict of one of `KINDS` -> (network, card).

    labels: the lines of labels.txt, with or without BACKGROUND; without it 20 classes are VOC's. Raises
    BadWeightsError, one line, for another network or where one tensor does not fit.
    """
    if not is_qfgaohao(state):
        raise BadWeightsError(f"{file}: no SSD of pytorch-ssd (no base_net and classification_headers)")
    spec = _spec_of(state, file)
    ssd = build(spec)
    copy_into(ssd, _pairs(ssd), state, file)
    names = object_labels(labels, spec.num_classes + 1)
    if names is None and spec.num_classes == len(VOC_20):
        names = list(VOC_20)
    class_names, ids = class_list(spec.num_classes, names)
    return ssd.eval(), Card(spec.to_dict(), class_names, ids, feature_maps(ssd), source=file)


def _spec_of(state: State, file: str) -> SSDSpec:
    if _is_vgg(state):
        columns, rest = divmod(rows(state, f"{HEADER}.weight", file), PER_CELL_OF_VGG)
        if rest or columns < 2:
            raise BadWeightsError(f"{file}: a vgg16-ssd of pytorch-ssd without its classification_headers")
        return KINDS["vgg16-ssd"](num_classes=columns - 1, layout="qfgaohao")
    alpha = _alpha(rows(state, "base_net.0.0.weight", file))
    last = next((f"{HEADER}{end}" for end in (".weight", ".2.weight", ".3.weight") if f"{HEADER}{end}" in state), None)
    if alpha is None or last is None or rows(state, last, file) % PER_CELL:
        raise BadWeightsError(f"{file}: an SSD of pytorch-ssd of no known kind ({', '.join(KINDS)})")
    kind = "mb1-ssd"
    if "base_net.1.conv.0.weight" in state:
        kind = "mb2-ssd-lite"
    elif last != f"{HEADER}.weight":
        kind = "mb1-ssd-lite"
    return KINDS[kind](num_classes=rows(state, last, file) // PER_CELL - 1, layout="qfgaohao", alpha=alpha)


def kind_of(spec: SSDSpec, file: str) -> str:
    """Which of `KINDS` a network is. Raises BadWeightsError, one line with what is nearest and differs, where it is none:
    their code has one input size, normalisation, padding and set of anchors for each, and no width but on V2."""
    differing: dict[str, list[str]] = {}
    for kind, family in KINDS.items():
        alpha = spec.backbone_options.get("alpha", 1.0) if kind == "mb2-ssd-lite" else 1.0
        theirs = family(num_classes=spec.num_classes, layout="qfgaohao", alpha=alpha)
        ours = replace(
            spec, norm_momentum=theirs.norm_momentum, heads=replace(spec.heads, class_bias=0.0)
        )  # training's
        # as plain data: what was read from a card has lists where a family has tuples
        mine, wanted = ours.to_dict(), theirs.to_dict()
        names = [name for name in wanted if mine[name] != wanted[name]]
        if not names:
            return kind
        differing[kind] = names
    kind, names = min(differing.items(), key=lambda one: len(one[1]))
    raise BadWeightsError(
        f"{file}: no network that train_ssd.py has; the nearest, {kind}, differs in {', '.join(names)}. Train it with "
        f"--model {KINDS[kind].__name__} --set options.layout=qfgaohao"
    )


def state_of(ssd: SSD) -> dict[str, Tensor]:
    """A network of one of `KINDS` as its state dict there, the inverse of `import_qfgaohao_state`."""
    return copy_out(ssd, _pairs(ssd))


def _alpha(stem: int) -> float | None:
    return next((alpha for alpha in ALPHAS if int(32 * alpha) == stem), None)


def _pairs(ssd: SSD) -> Iterator[Pair]:
    v2 = ssd.spec.backbone == "mobilenet_v2"
    if v2:
        yield from _pairs_of_v2(ssd.backbone, "backbone.", "base_net.")
    elif ssd.spec.backbone == "vgg16":
        layers = VGG_LAYERS | {"fc6": 31, "fc7": 33}
        yield from (Pair(f"backbone.{name}", f"base_net.{at}") for name, at in layers.items())
        yield Pair("backbone.conv4_3_norm", VGG_NORM)
    else:
        yield from _pairs_of_v1("backbone.", "base_net.")
    for i in range(len(ssd.extras)):
        if v2:
            yield from _inverted(f"extras.{i}", f"extras.{i}.conv", 0)
        elif ssd.spec.extras[i].kind == "conv":
            yield from (Pair(f"extras.{i}.{k}", f"extras.{i}.{2 * k}") for k in range(2))
        else:
            yield Pair(f"extras.{i}.0", f"extras.{i}.0")
            yield from (Pair(f"extras.{i}.{k + 1}", f"extras.{i}.2.{2 * k}") for k in range(2))
    heads = len(list(ssd.heads))
    for branch, theirs in (("score", "classification_headers"), ("box", "regression_headers")):
        for i in range(heads):
            ours, name = f"heads.{i}.{branch}", f"{theirs}.{i}"
            if ssd.spec.heads.kind == "conv" or i == heads - 1:
                yield Pair(ours, name)
            else:  # the depthwise one has a bias, and on V2 a norm too
                yield Pair(f"{ours}.0", f"{name}.0", f"{name}.1" if v2 else None)
                yield Pair(f"{ours}.1", f"{name}.3" if v2 else f"{name}.2")


def _pairs_of_v1(ours: str, theirs: str) -> Iterator[Pair]:
    yield Pair(f"{ours}conv0", f"{theirs}0.0", f"{theirs}0.1")
    for i in range(1, 14):
        yield Pair(f"{ours}blocks.{i - 1}.depthwise", f"{theirs}{i}.0", f"{theirs}{i}.1")
        yield Pair(f"{ours}blocks.{i - 1}.pointwise", f"{theirs}{i}.3", f"{theirs}{i}.4")


def _pairs_of_v2(backbone: nn.Module, ours: str, theirs: str) -> Iterator[Pair]:
    yield Pair(f"{ours}stem", f"{theirs}0.0", f"{theirs}0.1")
    blocks = [module for module in backbone.modules() if isinstance(module, InvertedResidual)]
    for i, block in enumerate(blocks):
        yield from _inverted(f"{ours}blocks.{i}", f"{theirs}{i + 1}.conv", 0 if block.expand is not None else None)
    yield Pair(f"{ours}top", f"{theirs}{len(blocks) + 1}.0", f"{theirs}{len(blocks) + 1}.1")


def _inverted(ours: str, theirs: str, expand: int | None) -> Iterator[Pair]:
    at = 0
    if expand is not None:
        yield Pair(f"{ours}.expand", f"{theirs}.0", f"{theirs}.1")
        at = 3
    yield Pair(f"{ours}.depthwise", f"{theirs}.{at}", f"{theirs}.{at + 1}")
    yield Pair(f"{ours}.project", f"{theirs}.{at + 3}", f"{theirs}.{at + 4}")


def backbone_of_state(state: State, file: str) -> BackboneWeights | None:
    """The backbone of mobilenet_v1_with_relu_69_5.pth or mb2-imagenet-71_8.pth, filled (keys as base_net's own, or as in
    their classifiers); None if it is none of them."""
    backbone = _backbone(state, file)
    return None if backbone is None else BackboneWeights(backbone, INPUT, "symmetric", folded=False)


def _backbone(state: State, file: str) -> nn.Module | None:
    prefix = next((p for p in ("", "model.", "features.") if f"{p}0.0.weight" in state), None)
    if prefix is None:
        return None
    own = {name: tensor for name, tensor in state.items() if name.startswith(prefix) and name[len(prefix)].isdigit()}
    alpha = _alpha(rows(own, f"{prefix}0.0.weight", file))
    options = {"alpha": alpha, "min_depth": 1, "padding": "symmetric", "norm_eps": 1e-5}
    if alpha is not None and f"{prefix}1.conv.0.weight" in own:
        backbone = build_backbone("mobilenet_v2", ["top"], round_to=1, **options)
        copy_into(backbone, _pairs_of_v2(backbone, "", prefix), own, file)
        return backbone
    if alpha is not None and f"{prefix}13.3.weight" in own:
        backbone = build_backbone("mobilenet_v1", ["conv13"], activation="relu", **options)
        copy_into(backbone, _pairs_of_v1("", prefix), own, file)
        return backbone
    return None
