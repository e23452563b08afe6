"""The model that `mobilessd info` was asked for: a name or a file -> what is known of it, as plain data."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from detection.errors import BadWeightsError, MobileSSDError, nearest, need
from detection.files import expanded
from detection.ssd.families import FAMILIES, family_of
from detection.ssd.spec import SSDSpec
from detection.two_stage.names import NAMES, PROPOSALS
from detection.weights.card import Card
from detection.weights.card_check import spec_of
from detection.weights.formats import card_of
from detection.weights.importers.table import READABLE, import_classifier
from detection.weights.names import spec_for
from detection.weights.records import RECORDS, Record, find_record
from detection.weights.resolve import converted_path, open_weights


@dataclass(frozen=True)
class Subject:
    """What is looked at: a detector (its spec and, where it has weights, card and record), or a classifier."""

    name: str
    spec: SSDSpec | None = None
    card: Card | None = None
    record: Record | None = None
    classifier: Any = None
    two_stage: Any = None
    input_size: tuple[int, int] = (224, 224)
    num_classes: int = 1000
    state: str = ""  # where its weights are


def find(args: argparse.Namespace) -> Subject:
    """The model that the command line means. Fetches nothing: published weights that are not in the cache are described
    by their record."""
    if expanded(args.model).exists():
        return _weights_file(args, args.model)
    if record := find_record(args.model):
        target = converted_path(record)
        if record.task == "detector" and target.exists():
            state = "ships with mobilessd" if record.shipped else "in the cache"
            return replace(_weights_file(args, str(target)), name=args.model, record=record, state=state)
        state = "not in the cache; the first command that needs its weights fetches them"
        if record.task == "detector":
            _only_for_architectures(args)
            spec = _architecture(record.architecture, args, **record.options)
            return Subject(args.model, spec, record=record, state=state)
        return replace(_classifier(args, record.architecture, **record.options), record=record, state="")
    if family_of(args.model):
        return Subject(args.model, _architecture(args.model, args))
    if args.model in NAMES:
        return _two_stage(args)
    if args.model in _backbones():
        return _classifier(args, args.model)
    names = [row["name"] for row in listing()]
    near = nearest(args.model, names, 3, 0.5)
    hint = f"nearest: {', '.join(near)}" if near else "`mobilessd info --list` shows all names"
    raise BadWeightsError(f"{args.model}: no such file, and no model of that name; {hint}")


def describe(subject: Subject, norms: bool = True) -> dict[str, Any]:
    """Everything that is known of a model, as plain data: what `--json` prints."""
    _need_torch()
    from backbones import count

    if subject.spec is not None:
        report, network = _detector_facts(subject)
        size = subject.spec.input.size
    elif subject.two_stage is not None:
        size, network = subject.input_size, subject.two_stage
        note = f"{PROPOSALS} proposals; trained and measured from Python, see docs/train.md"
        report = {"kind": "two-stage detector", "input_size": list(size), "num_classes": subject.num_classes}
        report |= {"anchors": 0, "note": note}
    else:
        size, network = subject.input_size, subject.classifier
        report = {"kind": "classifier", "input_size": list(size), "num_classes": subject.num_classes, "anchors": 0}
    if subject.two_stage is not None:
        from detection.two_stage.network import faster_rcnn_cost

        cost = faster_rcnn_cost(subject.two_stage, size, include_norms=norms)
    else:
        cost = count(network, size, include_norms=norms)
    published = subject.record or subject.card
    if published is not None:
        report |= {"licence": published.licence, "attribution": published.attribution}
        report["metrics"] = [dict(metric) for metric in published.metrics]
    if subject.record is not None:
        source = subject.card.source if subject.record.shipped and subject.card else subject.record.urls[0]
        report |= {"source": source, "note": subject.record.note}
    elif subject.card is not None:
        report["source"] = subject.card.source
    return {
        "name": subject.name,
        "state": subject.state,
        **report,
        "params": cost.params,
        "madds": cost.madds,
        "norms_counted": norms,
        "parts": _sums((layer.name.split(".")[0], layer) for layer in cost.layers),
        "kinds": _sums((layer.kind, layer) for layer in cost.layers),
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "output": list(layer.output_shape),
                "params": layer.params,
                "madds": layer.madds,
            }
            for layer in cost.layers
        ],
    }


def listing() -> Iterable[dict[str, Any]]:
    """A row for each name: architectures first, then the names with weights."""
    for name, build in FAMILIES.items():
        yield {"name": name, "kind": "detector", "weights": False, "about": _first_sentence(build.__doc__)}
    for name in NAMES:
        yield {
            "name": name,
            "kind": "two-stage",
            "weights": False,
            "about": "a two-stage detector of table 13, V1 paper",
        }
    for name in _backbones():
        yield {"name": name, "kind": "body", "weights": False, "about": "a backbone, and as a classifier"}
    for record in RECORDS:
        row = {"name": record.name, "kind": record.task, "weights": True, "about": record.note, "size": record.size}
        row |= {
            "licence": record.licence,
            "attribution": record.attribution,
            "metrics": [dict(metric) for metric in record.metrics],
        }
        at_hand = record.task == "detector" and converted_path(record).exists()
        yield row | {"shipped": record.shipped is not None, "in_cache": at_hand and record.shipped is None}


def _weights_file(args: argparse.Namespace, path: str) -> Subject:
    _only_for_architectures(args)
    if classifier := _classifier_file(args, path):
        return classifier
    card = open_weights(path).card
    spec = spec_of(card, path)
    if args.input_size:
        spec = spec.resized(args.input_size)
    if args.num_classes and args.num_classes != spec.num_classes:
        spec = spec.with_classes(args.num_classes)
        card = replace(card, class_names=())
    return Subject(args.model, spec, card)


def _classifier_file(args: argparse.Namespace, path: str) -> Subject | None:
    """A published ImageNet classifier; None if the file holds a detector, published or exported by us."""
    if card_of(expanded(path), READABLE) is not None:
        return None
    found = import_classifier(expanded(path))
    if found is None:
        return None
    network, _, contract = found
    size = args.input_size or contract.size
    return Subject(args.model, classifier=network, input_size=size, num_classes=network.fc.out_features)


def _architecture(name: str, args: argparse.Namespace, **options: Any) -> SSDSpec:
    wanted = {"alpha": args.alpha, "input_size": args.input_size, "num_classes": args.num_classes}
    wanted["layout"] = args.layout
    return spec_for(name, **options | {key: value for key, value in wanted.items() if value is not None})


def _classifier(args: argparse.Namespace, name: str, **options: Any) -> Subject:
    _need_torch()
    from backbones import build_classifier
    from backbones.shapes import shapes_only

    if args.alpha:
        options["alpha"] = args.alpha
    side = options.pop("input_size", 224)
    size = args.input_size or (side, side)
    number = args.num_classes or options.pop("num_classes", 1000)
    options.pop("num_classes", None)
    with shapes_only():
        network = build_classifier(name, number, **options)
    return Subject(args.model, classifier=network, input_size=size, num_classes=number)


def _two_stage(args: argparse.Namespace) -> Subject:
    _need_torch()
    from backbones.shapes import shapes_only
    from detection.two_stage.network import faster_rcnn

    size, number = args.input_size or (300, 300), args.num_classes or 90
    with shapes_only():
        options = {"alpha": args.alpha} if args.alpha else {}
        network = faster_rcnn(args.model, number + 1, size, **options)
    return Subject(args.model, two_stage=network, input_size=size, num_classes=number)


def _detector_facts(subject: Subject) -> tuple[dict[str, Any], Any]:
    from backbones.shapes import shapes_only
    from detection.ssd.network import build, feature_maps

    spec, card = subject.spec, subject.card
    assert spec is not None
    with shapes_only():  # shapes are enough
        network = build(spec)
    maps = feature_maps(network)
    per_cell = spec.anchors.per_cell(len(maps), spec.input.size)
    mean, std = spec.input.mean, spec.input.std
    facts = {
        "kind": "detector",
        "input_size": list(spec.input.size),
        "rule": f"{spec.input.color.upper()}, (x - {numbers(mean)}) / {numbers(std)}, {spec.scores} scores",
        "num_classes": spec.num_classes,
        "class_names": list(card.class_names) if card else [],
        "anchors": sum(h * w * a for (h, w), a in zip(maps, per_cell)),
        "feature_maps": [list(size) for size in maps],
        "anchors_per_cell": list(per_cell),
        "score_threshold": card.score_threshold if card else None,
        "notes": list(card.notes) if card else [],
        "spec": spec.to_dict(),
    }
    return facts, network


def _sums(pairs: Iterable[tuple[str, Any]]) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {}
    for key, layer in pairs:
        entry = sums.setdefault(key, {"params": 0, "madds": 0})
        entry["params"] += layer.params
        entry["madds"] += layer.madds
    return sums


def numbers(values: tuple[float, ...]) -> str:
    """Mean or deviation of the input, one number where its channels agree."""
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def _only_for_architectures(args: argparse.Namespace) -> None:
    for value, option in ((args.alpha, "--alpha"), (args.layout, "--layout")):
        if value is not None:
            bare = args.model.split(".")[0]
            raise MobileSSDError(
                f"{args.model} has weights, which fix its form: {option} goes with a bare name ({bare})"
            )


def _backbones() -> tuple[str, ...]:
    """The names of `backbones.list_backbones()`; empty where torch is missing, which backbones need."""
    try:
        from backbones import list_backbones
    except ModuleNotFoundError:
        return ()
    return list_backbones()


def _need_torch() -> None:
    need("counting a network", "torch", "torchvision")


def _first_sentence(text: str | None) -> str:
    sentence = " ".join((text or "").split()).split(". ")[0].split(": ")[0].rstrip(".")
    return textwrap.shorten(sentence, 76, placeholder=" ...")
