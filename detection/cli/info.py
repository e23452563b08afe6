"""`mobilessd info`: what a model is and what it costs, without running or downloading anything.

A zoo name, a name with a recipe or any weights file -> its card, feature maps and anchors, and its parameters and
multiply-adds by part, by kind of layer and layer by layer. `--list` shows all names.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.cli.common import input_size, positive_int, width
from detection.cli.info_text import format_listing, format_report
from detection.errors import BadWeightsError, MissingPackageError, MobileSSDError, nearest

if TYPE_CHECKING:
    from detection.ssd.spec import SSDSpec
    from detection.weights.card import Card
    from detection.weights.records import Record

EPILOG = """examples:
  mobilessd info --list
  mobilessd info ssdlite_mobilenet_v2.coco
  mobilessd info ssdlite_mobilenet_v2 --width-mult 0.5 --input-size 224 --num-classes 3
  mobilessd info mobilenet_v2 --layers
  mobilessd info detect.tflite --json
  mobilessd info ssdlite_mobilenet_v2 --anchors data.yaml

Parameters are weights and biases of convolutions and linear layers, gamma and beta of batch norms; multiply-adds are
those of convolutions and linear layers, for one image."""


@dataclass(frozen=True)
class Subject:
    """What is looked at: a detector (its spec and, where it has weights, card and record), or a classifier."""

    name: str
    spec: SSDSpec | None = None
    card: Card | None = None
    record: Record | None = None
    classifier: Any = None
    input_size: tuple[int, int] = (224, 224)
    num_classes: int = 1000
    state: str = ""  # where its weights are


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a zoo name, a name with a recipe, or a weights file")
    parser.add_argument("--list", action="store_true", help="show all names")
    parser.add_argument("--width-mult", type=width, metavar="A", help="width multiplier (alpha) of an architecture")
    parser.add_argument("--input-size", type=input_size, metavar="S", help="input in pixels: S, or HEIGHTxWIDTH")
    parser.add_argument("--num-classes", type=positive_int, metavar="N", help="object classes, without background")
    parser.add_argument("--layout", metavar="L", help="whose network: tensorflow, torchvision, mmdet, qfgaohao, caffe")
    parser.add_argument("--no-norm", action="store_true", help="count without the batch norms' parameters")
    parser.add_argument("--layers", action="store_true", help="show every layer")
    parser.add_argument("--anchors", metavar="DATASET", help="also: which boxes of a data set its anchors can match")
    parser.add_argument("--split", metavar="S", help="of that data set (default: train)")
    parser.add_argument("--images", metavar="DIR", help="the images of a COCO .json")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    if args.list:
        rows = list(listing())
        print(json.dumps(rows, indent=2) if args.json else format_listing(rows))
        return 0
    if not args.model:
        raise MobileSSDError("which model? `mobilessd info MODEL`, or `mobilessd info --list` for all names")
    subject = find(args)
    try:
        report = describe(subject, norms=not args.no_norm)
    except ValueError as error:  # the bodies' own complaints: an input too small, an unknown option
        raise MobileSSDError(f"{args.model}: {error}") from None
    text = "" if args.json else format_report(report, args.layers)
    if args.anchors:
        from detection.cli.info_anchors import reach

        found = reach(subject, args.anchors, args.split, args.images)
        report, text = report | {"reach": found.to_dict()}, "\n".join([text, "", *found.lines()])
    print(json.dumps(report, indent=2) if args.json else text)
    return 0


def find(args: argparse.Namespace) -> Subject:
    """The model that the command line means. Fetches nothing: published weights that are not in the cache are described
    by their record."""
    from detection.ssd.families import FAMILIES
    from detection.weights.records import find_record
    from detection.weights.resolve import converted_path

    if Path(args.model).expanduser().exists():
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
    if args.model in FAMILIES:
        return Subject(args.model, _architecture(args.model, args))
    if args.model in _bodies():
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
    else:
        size, network = subject.input_size, subject.classifier
        report = {"kind": "classifier", "input_size": list(size), "num_classes": subject.num_classes, "anchors": 0}
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
    from detection.ssd.families import FAMILIES
    from detection.weights.records import RECORDS
    from detection.weights.resolve import converted_path

    for name, build in FAMILIES.items():
        yield {"name": name, "kind": "detector", "weights": False, "about": _first_sentence(build.__doc__)}
    for name in _bodies():
        yield {"name": name, "kind": "body", "weights": False, "about": "a body, and as a classifier"}
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
    from detection.ssd.spec import SSDSpec
    from detection.weights.resolve import open_weights

    _only_for_architectures(args)
    if classifier := _classifier_file(args, path):
        return classifier
    card = open_weights(path).card
    spec = SSDSpec.from_dict(card.spec)
    if args.input_size:
        spec = spec.with_input_size(args.input_size)
    if args.num_classes and args.num_classes != spec.num_classes:
        spec = spec.with_classes(args.num_classes)
        card = replace(card, class_names=())
    return Subject(args.model, spec, card)


def _classifier_file(args: argparse.Namespace, path: str) -> Subject | None:
    """A published ImageNet classifier; None if the file holds a detector, published or exported by us."""
    from detection.weights.formats import card_of
    from detection.weights.importers.table import READABLE, import_classifier

    if card_of(Path(path).expanduser(), READABLE) is not None:
        return None
    found = import_classifier(Path(path).expanduser())
    if found is None:
        return None
    network, _, contract = found
    size = args.input_size or contract.size
    return Subject(args.model, classifier=network, input_size=size, num_classes=network.fc.out_features)


def _architecture(name: str, args: argparse.Namespace, **options: Any) -> SSDSpec:
    from detection.weights.names import spec_for

    wanted = {"alpha": args.width_mult, "input_size": args.input_size, "num_classes": args.num_classes}
    wanted["layout"] = args.layout
    return spec_for(name, **options | {key: value for key, value in wanted.items() if value is not None})


def _classifier(args: argparse.Namespace, name: str, **options: Any) -> Subject:
    _need_torch()
    import torch

    from backbones import build_classifier

    if args.width_mult:
        options["alpha"] = args.width_mult
    side = options.pop("input_size", 224)
    size = args.input_size or (side, side)
    number = args.num_classes or options.pop("num_classes", 1000)
    options.pop("num_classes", None)
    with torch.device("meta"):
        network = build_classifier(name, number, **options)
    return Subject(args.model, classifier=network, input_size=size, num_classes=number)


def _detector_facts(subject: Subject) -> tuple[dict[str, Any], Any]:
    import torch

    from detection.ssd.network import build, feature_maps

    spec, card = subject.spec, subject.card
    assert spec is not None
    with torch.device("meta"):  # shapes are enough
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
    for value, option in ((args.width_mult, "--width-mult"), (args.layout, "--layout")):
        if value is not None:
            bare = args.model.split(".")[0]
            raise MobileSSDError(
                f"{args.model} has weights, which fix its form: {option} goes with a bare name ({bare})"
            )


def _bodies() -> tuple[str, ...]:
    """The names of `backbones.list_backbones()`; empty where torch is missing, which bodies need."""
    try:
        from backbones import list_backbones
    except ModuleNotFoundError:
        return ()
    return list_backbones()


def _need_torch() -> None:
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise MissingPackageError("counting a network needs torch: pip install torch torchvision")


def _first_sentence(text: str | None) -> str:
    sentence = " ".join((text or "").split()).split(". ")[0].split(": ")[0].rstrip(".")
    return textwrap.shorten(sentence, 76, placeholder=" ...")
