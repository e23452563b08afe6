"""What a run began with, kept in each of its states: its data, so that --resume alone goes on with the same; its card, so
that the weights it began with are not needed again; its recipe as it was asked for. config.yaml holds the data too, so that
`train --config config.yaml` is the same run again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import field, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from detection.config import build as checked
from detection.config import hints_of
from detection.data.dataset import DetectionData
from detection.data.open import recognise
from detection.errors import MobileSSDError
from detection.ssd.network import build
from detection.train.config import TrainConfig
from detection.train.model import Prepared, set_momentum
from detection.train.recipes import DATA, FINETUNE, data_section, load_config
from detection.train.request import Request
from detection.train.state import RunState, read_meta
from detection.weights.card import Card
from detection.weights.card_check import spec_of

OLD_FIELDS = {  # of states that were written before 0.2
    "soft": "pseudo_labels",
    "keep_soft": "keep_pseudo_labels",
    "ignore_soft": "ignore_pseudo_labels",
}
DATA_FIELDS = (
    "data",
    "val",
    "split",
    "format",
    "images",
    "val_images",
    "select",
    "select_ids",
    "extra",
    "pseudo_labels",
    "keep_pseudo_labels",
    "ignore_pseudo_labels",
    "classes",
    "class_map",
    "unknown",
)

NAMES = {"path": "data"}  # keys of config.yaml's section that are called otherwise in a request
_SILENT = {name: getattr(Request("", TrainConfig(), Path()), name) for name in DATA_FIELDS}  # what says nothing
_Section = make_dataclass(
    "DataSection",
    [
        ("path", str),
        *(
            (name, hints_of(Request)[name], field(default_factory=partial(_SILENT.get, name)))
            for name in DATA_FIELDS[1:]
        ),
    ],
)

FREE = ("workers", "cache_mb", "log_every", "log")  # of a config: what changes nothing that is learned
FIXED = ("model", "options", "weights", "input_size", "initial", "batch", "freeze", "seed")  # what no run can change


def resumed_config(folder: Path, recipe: str | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """The config of a run to go on with, from its config.yaml.

    The run's own command may be given again, with --resume behind it: `recipe` and `overrides` are what it said. What
    would make another run of it raises MobileSSDError, except for FREE."""
    path = folder / "config.yaml"
    if not path.exists():
        raise MobileSSDError(f"{folder}: holds no run to go on with; name its folder with --output")
    asked = read_meta(folder).get("origin", {}).get("asked")
    if asked and (recipe or overrides) and _same(flat(load_config(recipe or FINETUNE, overrides)), asked):
        return load_config(path, {key: value for key, value in overrides.items() if key in FREE})
    theirs, changed = flat(load_config(path)), load_config(path, overrides)
    for config in (changed, load_config(recipe, overrides)) if recipe else (changed,):
        mine = flat(config)
        if other := [key for key in mine if mine[key] != theirs.get(key) and key not in FREE]:
            way = "" if other[0].split(".")[0] in FIXED else f", or change it in {path}"
            raise MobileSSDError(
                f"{folder}: this run has {other[0]} {theirs.get(other[0])}, not {mine[other[0]]}; leave that out of "
                f"--resume{way}"
            )
    return changed


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other.get(key) for key in one if key not in FREE)


def flat(config: TrainConfig) -> dict[str, Any]:
    """The values of a config by dotted key."""
    plain = config.to_dict()
    sections = {key: value for key, value in plain.items() if isinstance(value, dict)}
    flat = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    return {key: value for key, value in plain.items() if key not in sections} | flat


def check_unchanged(config: TrainConfig, state: RunState, folder: Path) -> TrainConfig:
    """The config as it was when the state was written. Raises MobileSSDError where `config` differs in what is FIXED."""
    began, path = TrainConfig.from_dict(state.meta["config"], str(folder)), folder / "config.yaml"
    for key in FIXED:
        if getattr(config, key) != getattr(began, key):
            raise MobileSSDError(
                f"{path}: {key} was {getattr(began, key)} when the run began and cannot change; put it back, or begin "
                "another run from this one's weights with --weights"
            )
    section, kept = data_section(path), _section(state.meta["origin"]["request"])
    if section is not None and section != kept:
        key = next(key for key in {**section, **kept} if section.get(key) != kept.get(key))
        raise MobileSSDError(
            f"{path}: {DATA}.{key} was {kept.get(key)} when the run began and cannot change; put it back, or begin "
            "another run from this one's weights with --weights"
        )
    return began


def resumed(request: Request, state: RunState) -> Request:
    """The request with what the run's own command line said of its data, wherever this one says nothing.

    What it says otherwise shows in the fingerprint of the data, but for the class map, which only the beginning of a run
    looks at: that is compared here. Raises MobileSSDError."""
    said = {OLD_FIELDS.get(name, name): value for name, value in state.meta["origin"]["request"].items()}
    kept = {name: value for name, value in said.items() if name in DATA_FIELDS}
    if request.class_map and request.class_map != kept["class_map"]:
        begun = ", ".join(f"{mine}={theirs}" for mine, theirs in kept["class_map"].items()) or "none"
        raise MobileSSDError(f"{request.output}: this run has the class map {begun}; leave --class-map out of --resume")
    return _filled(request, kept)


def repeated(request: Request, recipe: str | None) -> Request:
    """The request with what the config.yaml of a run says of its data, if `recipe` is one, and no other data are named.

    Raises MobileSSDError, one line, for what such a file cannot say."""
    section = data_section(recipe) if recipe and not request.data else None
    if section is None:
        return request
    found = vars(checked(_Section, section, f"{recipe}: {DATA}"))
    return _filled(request, {NAMES.get(key, key): value for key, value in found.items()})


def _filled(request: Request, kept: dict[str, Any]) -> Request:
    """With `kept` wherever the request says nothing."""
    return replace(request, **{n: v for n, v in kept.items() if getattr(request, n) == _SILENT[n]})


def origin_of(request: Request, fingerprint: str, card: Card, state: RunState | None = None) -> dict[str, Any]:
    """What a state keeps; `state`: of the run that goes on, which knows what was asked for when it began. Paths in full,
    so that a run can be resumed from another folder."""
    found = {name: getattr(request, name) for name in DATA_FIELDS}
    for name in ("data", "images", "val_images", "select_ids"):
        found[name] = _in_full(found[name])
    if found["val"] and found["val"] not in recognise(request.data, request.format or "auto").splits:
        found["val"] = _in_full(found["val"])
    for name in ("extra", "pseudo_labels"):
        found[name] = [_in_full(path) for path in found[name]]
    asked = flat(request.config) if state is None else state.meta["origin"].get("asked")
    return {"request": found, "data": fingerprint, "card": card.to_json(), "asked": asked}


def config_text(config: TrainConfig, origin: Mapping[str, Any]) -> str:
    """What config.yaml holds: the recipe with the length that the run has, and the data."""
    return config.to_yaml() + yaml.safe_dump({DATA: _section(origin["request"])}, sort_keys=False)


def _section(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of the data, as config.yaml has it."""
    kept = {OLD_FIELDS.get(name, name): value for name, value in kept.items()}
    said = {name: value for name, value in kept.items() if name in DATA_FIELDS and value != _SILENT[name]}
    return {next((key for key in NAMES if NAMES[key] == name), name): value for name, value in said.items()}


def _in_full(path: str | None) -> str | None:
    return os.path.abspath(path) if path and os.path.exists(path) else path


def fingerprint_of(*parts: DetectionData | None) -> str:
    """Changes with any image, class or box that a run learns from or chooses its weights by. Not with the folder."""
    digest = hashlib.sha256()
    for part in filter(None, parts):
        digest.update(json.dumps(part.class_names).encode())
        ids = part.image_ids
        digest.update(json.dumps(ids.tolist()).encode() if ids.dtype == object else ids.tobytes())
        for name in ("sizes", "starts", "boxes", "labels", "scores", "flags", "unknown"):
            digest.update(getattr(part, name).tobytes())
    return digest.hexdigest()


def network_of_state(config: TrainConfig, state: RunState) -> Prepared:
    """The network of a stopped run, to be filled from its state: the weights it began with are not needed again."""
    card = Card.from_json(state.meta["origin"]["card"], "the run's state")
    ssd = build(spec_of(card, "the run's state"))
    set_momentum(ssd, config.norm_momentum)
    return Prepared(ssd, card, [f"network: {ssd.spec.backbone}, as it was at step {state.meta['step']}"])
