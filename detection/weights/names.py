"""Names -> networks and published weights.

A bare name (`ssdlite_mobilenet_v2`) is an architecture; a name with a recipe (`ssdlite_mobilenet_v2.coco`) has weights.
Wherever a name is taken, a path is taken too. Imports no torch before a published file has to be converted.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.errors import BadWeightsError, MobileSSDError, nearest
from detection.weights.records import Record, find_record, list_weights

if TYPE_CHECKING:
    from detection.ssd.network import SSD
    from detection.ssd.spec import SSDSpec
    from detection.weights.card import Card

DEFAULT = "ssdlite_mobilenet_v2.mobilessd"  # it ships, so that nothing has to be fetched


def list_models() -> tuple[str, ...]:
    """Every name that may stand where a model is asked for: the architectures of detectors, which can be trained and
    counted (`list_architectures`), then the names with published weights (`list_weights`), which also detect."""
    return (*list_architectures(), *list_weights())


def list_architectures() -> tuple[str, ...]:
    """The detectors that `spec_for` builds by a bare name."""
    from detection.ssd.families import FAMILIES

    return tuple(FAMILIES)


def spec_for(name: str, **options: Any) -> SSDSpec:
    """The network of a detector by name. Options: alpha, input_size, num_classes (objects, without background),
    min_depth, layout, extras, stride8, taps, anchor_base, aspect_ratios and a few of single families: `detection.ssd.families`.

    A name with a recipe (`ssd_mobilenet_v1_075.coco`) is the network of those weights; options given win.
    Raises MobileSSDError, one line with the nearest right words, for an unknown name or option, or a wrong value.
    """
    from detection.ssd.families import FAMILIES, options_of

    record = find_record(name)
    if record is not None and record.task == "detector":
        name, options = record.architecture, record.options | options
    if name not in FAMILIES:
        near = nearest(name, FAMILIES, 3, 0.4) or list(FAMILIES)
        raise MobileSSDError(f"no model of the name {name!r}; nearest: {', '.join(near)}")
    known = options_of(FAMILIES[name])
    for option in options:
        if option not in known:
            near = nearest(option, known)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise MobileSSDError(f"{name} has no option {option!r}{hint}; it has {', '.join(known)}")
    return FAMILIES[name](**options)


def resolve(name_or_path: str | os.PathLike) -> Path:
    """The file or folder that a path or a zoo name with a recipe means.

    A name is fetched once and kept in the cache: a detector as safetensors with its card, a classifier as published.
    Raises MobileSSDError, one line, where there is no such file and no such name (the nearest are offered), where it
    cannot be fetched, or where converting it needs a package that is missing.
    """
    path = Path(name_or_path).expanduser()
    if str(name_or_path) and path.exists():
        return path
    record = find_record(str(name_or_path))
    if record is None:
        raise BadWeightsError(_no_such(str(name_or_path)))
    return _published(record)


def load(name_or_path: str | os.PathLike) -> tuple[SSD, Card]:
    """A detector's network, in eval mode, and its card, by zoo name or path. Needs torch.

    Raises MobileSSDError, one line, as `resolve` does, and for an exported file (.onnx, .xml), which is no network any
    more.
    """
    from detection.weights.resolve import need_torch, open_weights

    weights = open_weights(name_or_path)
    if weights.exported:
        raise BadWeightsError(
            f"{weights.path}: an exported file runs as it is (Detector), it cannot become a network again"
        )
    need_torch(name_or_path)
    from detection.weights.checkpoint import load_checkpoint

    return load_checkpoint(weights.path)


def converted_path(record: Record) -> Path:
    """Where the safetensors form of a published detector lies, whether it is there or not: in the cache, or in the
    installation."""
    if record.shipped is not None:
        return record.shipped
    from detection.files import home
    from detection.weights.resolve import CONVERTER

    return home() / "weights" / f"{record.name}-{record.sha256[:8]}-{CONVERTER}.safetensors"


def _published(record: Record) -> Path:
    """A record's weights, fetched and converted if they are not yet. What was converted is not hashed again."""
    if record.task == "detector" and (target := converted_path(record)).exists():
        return target
    if record.shipped is not None:
        raise BadWeightsError(f"{record.name}: {record.shipped} is missing; it comes with mobilessd: install it again")
    from detection.weights.download.fetch import fetch
    from detection.weights.resolve import importer_of, need_torch

    if record.task != "detector":
        return fetch(record)
    need_torch(record.name)  # before megabytes are fetched in vain
    original = fetch(record)
    from detection.weights.checkpoint import save_checkpoint

    ssd, card = importer_of(original)(original)
    save_checkpoint(target, ssd, described(card, record))
    return target


def described(card: Card, record: Record) -> Card:
    """The card with what the record knows: name, source, licence, attribution, metrics."""
    return replace(
        card,
        name=record.name,
        source=record.urls[0],
        licence=record.licence,
        attribution=record.attribution,
        metrics=[dict(metric) for metric in record.metrics],
    )


def _no_such(name: str) -> str:
    """One line for a name that is neither a file nor a model with weights."""
    from detection.ssd.families import FAMILIES

    with_weights = [known for known in list_weights() if known.startswith(f"{name}.")]
    if name in FAMILIES:
        hint = f"with weights: {', '.join(with_weights)}" if with_weights else "no weights are published for it"
        return f"{name}: no such file, and the model of that name is an architecture without weights; {hint}"
    near = nearest(name, list_weights(), 3, 0.4) or list_weights()[:4]
    return f"{name}: no such file, and no model of that name; nearest: {', '.join(near)}"
