"""The network to train: of an architecture, or from weights whose class rows are carried over by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from detection.boxes.class_names import ClassNames, match
from detection.errors import MobileSSDError
from detection.ssd.families import with_finer_map
from detection.ssd.family_anchors import with_aspect_ratios
from detection.ssd.heads import last_convolution
from detection.ssd.network import SSD, anchor_grids, build, feature_maps
from detection.ssd.spec import SSDSpec
from detection.train.config_parts import InitialConfig
from detection.train.weight_init import initialise_network
from detection.weights.backbone import load_backbone
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, load_into
from detection.weights.resolve import open_weights

NEW_ROW_STD = 0.01  # of class rows that have nothing to start from: small beside the 0.1 of trained ones


@dataclass
class Prepared:
    """A network ready for training, its card, what was done to it in plain lines. folded: the part of it whose batch
    norms hold trivial statistics, to be rebuilt on the user's images before the first step. fresh: module names below which
    nothing is of the weights."""

    ssd: SSD
    card: Card
    said: list[str]
    folded: nn.Module | None = None
    fresh: tuple[str, ...] = ()


def from_weights(
    path: str,
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...],
    input_size: tuple[int, int] | None = None,
    class_map: dict[str, str] | None = None,
    class_bias: float | None = None,
    aspect_ratios: Sequence[float] | None = None,
    stride8: bool = False,
) -> Prepared:
    """Weights of any kind, fitted to the classes of a data set.

    A class of the data takes the rows of the weights' class of the same name (VOC's and COCO's spellings are one;
    class_map names others: data's name -> weights' name); the rest start anew. At another input than the weights' own
    the anchors keep their pixels and lie where the network looks (`SSDSpec.resized`).
    aspect_ratios: other anchors (`family_anchors.with_aspect_ratios`); each begins with the rows of the nearest old one.
    stride8: one more map, for small objects (`families.with_finer_map`); its head begins anew.
    """
    weights = open_weights(path)
    if weights.exported:
        raise MobileSSDError(f"{path}: an exported file cannot be trained; name the .safetensors it was made from")
    ClassNames(class_names).choose(class_map or {}, "--class-map: the data")
    ssd, card = load_checkpoint(weights.path)
    old_names, base = card.class_names, ssd.spec.anchors.base
    spec = ssd.spec if input_size is None else ssd.spec.resized(input_size)
    if aspect_ratios is not None:
        maps = len(feature_maps(ssd))
        spec = replace(spec, anchors=with_aspect_ratios(spec.anchors, aspect_ratios, maps))
    if stride8:
        spec = with_finer_map(spec)
    sources = class_sources(class_names, old_names, class_map or {})
    same = list(sources) == list(range(len(old_names))) and len(class_names) == len(old_names)
    if not same or spec != ssd.spec:
        ssd = transfer(ssd, spec.with_classes(len(class_names)), sources, class_bias)
    said = [f"weights: {path} ({ssd.spec.backbone}, {spec.input.size[1]}x{spec.input.size[0]} pixels)"]
    if spec.anchors.base != base and spec.anchors.base is not None:
        said.append("the anchors keep the pixels that they have at {1}x{0}".format(*spec.anchors.base))
    if aspect_ratios is not None:
        said.append(f"anchors of a cell, map by map: {spec.anchors.per_cell(maps + stride8, spec.input.size)}")
    if stride8:
        said.append(f"one more map for small objects, {spec.taps[0]}: its head, heads.0, begins anew")
    if not same:
        said.append(_class_line(class_names, old_names, sources))
    folded = ssd if card.folded_norms else None
    card.source = f"fine-tuned from {card.name or path}"
    return Prepared(ssd, _new_card(card, ssd, class_names, category_ids), said, folded, ("heads.0",) if stride8 else ())


def from_scratch(
    spec: SSDSpec,
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...],
    backbone_weights: str | None = None,
    initial: InitialConfig = InitialConfig(),  # noqa: B008 (frozen)
) -> Prepared:
    """An architecture with fresh weights; `backbone_weights`: an ImageNet backbone to start from."""
    ssd = build(spec.with_classes(len(class_names)))
    initialise_network(ssd, initial)
    said = [f"network: {spec.backbone} with fresh weights, {spec.input.size[1]}x{spec.input.size[0]} pixels"]
    folded = None
    if backbone_weights is not None:
        report = load_backbone(ssd, backbone_weights)
        said[0] = f"network: {spec.backbone}, backbone from {backbone_weights}, extras and heads fresh"
        if report.whole:
            said[0] += (
                f"; {backbone_weights} is a whole detector of this network: to go on with all of it, leave --model out"
            )
        said += report.notes
        folded = ssd.backbone if report.folded else None  # fresh norms behind it are right as they are
    card = Card(spec={}, class_names=(), category_ids=())
    return Prepared(ssd, _new_card(card, ssd, class_names, category_ids), said, folded)


def class_sources(
    class_names: Iterable[str], old_names: tuple[str, ...], class_map: dict[str, str]
) -> list[int | None]:
    """For each class of the data, the class of the weights that it continues, or None."""
    own = ClassNames(class_names)
    wanted = list(own.names)
    ClassNames(old_names).choose(class_map.values(), "--class-map: the weights")
    for mine, theirs in class_map.items():
        for index in own.find(mine):
            wanted[index] = theirs
    return list(match(wanted, old_names).to)


@torch.no_grad()
def transfer(ssd: SSD, spec: SSDSpec, sources: list[int | None], class_bias: float | None = None) -> SSD:
    """A network of `spec` with everything that `ssd` has, class rows rearranged: row i continues row sources[i].

    New rows start small, with the mean bias of the old classes (or `class_bias`): they begin as rare as classes are.
    Where the anchors have other shapes, each takes the rows of the old anchor that is nearest to it. Where it has maps in
    front that `ssd` has not, their heads start anew, their classes as rare as on the next map.
    """
    new = build(spec)
    old_heads, new_heads = list(ssd.heads), list(new.heads)
    finer = len(new_heads) - len(old_heads)
    state = {_behind(k, finer): v for k, v in ssd.state_dict().items() if not _is_row(ssd, k)}
    report = load_into(new, state)
    if report.mismatched or report.unexpected:
        raise MobileSSDError(f"the weights do not fit the network: {report}")
    nearest_anchors = _nearest_anchors(ssd, spec, finer)
    for old_head, new_head, nearest in zip(old_heads, new_heads[finer:], nearest_anchors, strict=True):
        old, fresh = last_convolution(old_head.score), last_convolution(new_head.score)
        columns = old_head.columns
        fresh.weight.copy_(_rows(_of_anchors(old.weight, columns, nearest), columns, sources, fill="small"))
        assert old.bias is not None and fresh.bias is not None
        fill = "mean" if class_bias is None else class_bias
        fresh.bias.copy_(_rows(_of_anchors(old.bias, columns, nearest), columns, sources, fill=fill))
        old, fresh = last_convolution(old_head.box), last_convolution(new_head.box)
        fresh.weight.copy_(_of_anchors(old.weight, 4, nearest))
        assert old.bias is not None and fresh.bias is not None
        fresh.bias.copy_(_of_anchors(old.bias, 4, nearest))
    columns = 1 + len(sources)
    known = last_convolution(new_heads[finer].score).bias
    for head in new_heads[:finer]:
        bias = last_convolution(head.score).bias
        assert bias is not None and known is not None
        bias.copy_(known.reshape(-1, columns).mean(0).repeat(len(bias) // columns))
    return new


def _behind(name: str, finer: int) -> str:
    """The name of a tensor in a network with so many more maps in front."""
    first, _, rest = name.partition(".")
    place, _, rest = rest.partition(".")
    return f"heads.{int(place) + finer}.{rest}" if finer and first == "heads" else name


def _nearest_anchors(ssd: SSD, spec: SSDSpec, finer: int) -> list[list[int]]:
    """For each head and each anchor of a cell of `spec`, but those of so many new maps in front, the old anchor that it
    continues. A pyramid has one head for all maps, whose cells are of one kind."""
    maps, size = len(list(ssd.heads)), spec.input.size
    if spec.anchors.options == ssd.spec.anchors.options:
        return [list(range(len(cell.sizes))) for cell in spec.anchors.cells(maps, size)]
    wanted = spec.anchors.cells(maps + finer, size)[finer:]
    known = replace(ssd.spec.anchors, base=spec.anchors.base).cells(maps, size)
    logs = [(np.log(new.sizes)[:, None], np.log(old.sizes)[None]) for new, old in zip(wanted, known)]
    return [np.square(new - old).sum(-1).argmin(1).tolist() for new, old in logs]


def _of_anchors(old: Tensor, numbers: int, anchors: list[int]) -> Tensor:
    """[a * numbers, ...] -> [len(anchors) * numbers, ...]: the rows of these anchors."""
    return old.reshape(-1, numbers, *old.shape[1:])[anchors].reshape(-1, *old.shape[1:])


def _rows(old: Tensor, columns: int, sources: list[int | None], fill: str | float) -> Tensor:
    """[a * K, ...] -> [a * (1 + len(sources)), ...]: background, then a row a class."""
    table = old.reshape(-1, columns, *old.shape[1:])
    new = table.new_empty(table.shape[0], 1 + len(sources), *table.shape[2:])
    new[:, 0] = table[:, 0]
    for i, source in enumerate(sources, start=1):
        if source is not None:
            new[:, i] = table[:, 1 + source]
        elif fill == "small":
            new[:, i].normal_(0, NEW_ROW_STD)
        else:
            new[:, i] = table[:, 1:].mean(1) if fill == "mean" else float(fill)
    return new.reshape(-1, *old.shape[1:])


def _is_row(ssd: SSD, name: str) -> bool:
    """Whether the weight belongs to a layer whose rows are those of anchors: boxes and class scores."""
    modules: dict[int, str] = {id(m): n for n, m in ssd.named_modules()}
    rows = {modules[id(last_convolution(b))] for head in ssd.heads for b in (head.box, head.score)}  # type: ignore[union-attr]
    return name.rpartition(".")[0] in rows


def _class_line(class_names: tuple[str, ...], old_names: tuple[str, ...], sources: list[int | None]) -> str:
    kept = [
        f"{new} from {old_names[s]}" if new != old_names[s] else new
        for new, s in zip(class_names, sources)
        if s is not None
    ]
    fresh = [new for new, s in zip(class_names, sources) if s is None]
    parts = []
    if kept:
        parts.append(f"{len(kept)} continued ({', '.join(kept[:6])}{', ...' if len(kept) > 6 else ''})")
    if fresh:
        parts.append(f"{len(fresh)} new ({', '.join(fresh[:6])}{', ...' if len(fresh) > 6 else ''})")
    return f"classes: {len(class_names)} - " + ", ".join(parts)


def _new_card(card: Card, ssd: SSD, class_names: tuple[str, ...], category_ids: tuple[int, ...]) -> Card:
    card.spec = ssd.spec.to_dict()
    card.class_names, card.category_ids = tuple(class_names), tuple(int(i) for i in category_ids)
    card.feature_maps, card.anchor_grids = feature_maps(ssd), anchor_grids(ssd)
    card.score_threshold, card.class_thresholds, card.metrics = None, None, []
    card.folded_norms, card.merge = False, None
    return card


def set_momentum(ssd: SSD, momentum: float | None) -> None:
    """Of the batch norms, in PyTorch's sense, where a recipe has one of its own."""
    for layer in ssd.modules():
        if momentum is not None and isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = momentum
