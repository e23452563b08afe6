"""What a run began with, kept in each of its states: its data, so that --resume alone goes on with the same, and its
card, so that the weights it began with are not needed again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from detection.data.dataset import DetectionData
from detection.errors import MobileSSDError
from detection.ssd.network import build
from detection.train.config import TrainConfig
from detection.train.model import Prepared, set_momentum
from detection.train.recipes import load_config
from detection.train.request import Request
from detection.train.state import RunState
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


FREE = ("workers", "cache_mb", "log_every")  # of a config: what changes nothing that is learned
FIXED = ("model", "options", "weights", "input_size", "initial", "batch", "freeze", "seed")  # what no run can change


def resumed_config(folder: Path, recipe: str | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """The config of a run to go on with, from its config.yaml.

    The run's own command may be given again, with --resume behind it: `recipe` and `overrides` are what it said. What
    would make another run of it raises MobileSSDError, except for FREE."""
    path = folder / "config.yaml"
    if not path.exists():
        raise MobileSSDError(f"{folder}: holds no run to go on with; name its folder with --output")
    theirs, changed = _flat(load_config(path)), load_config(path, overrides)
    for config in (changed, load_config(recipe, overrides)) if recipe else (changed,):
        mine = _flat(config)
        if other := [key for key in mine if mine[key] != theirs.get(key) and key not in FREE]:
            way = "" if other[0].split(".")[0] in FIXED else f", or change it in {path}"
            raise MobileSSDError(
                f"{folder}: this run has {other[0]} {theirs.get(other[0])}, not {mine[other[0]]}; leave that out of "
                f"--resume{way}"
            )
    return changed


def _flat(config: TrainConfig) -> dict[str, Any]:
    """The values of a config by dotted key."""
    plain = config.to_dict()
    sections = {key: value for key, value in plain.items() if isinstance(value, dict)}
    flat = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    return {key: value for key, value in plain.items() if key not in sections} | flat


def check_unchanged(config: TrainConfig, state: RunState, folder: Path) -> TrainConfig:
    """The config as it was when the state was written. Raises MobileSSDError where `config` differs in what is FIXED."""
    began = TrainConfig.from_dict(state.meta["config"], str(folder))
    for key in FIXED:
        if getattr(config, key) != getattr(began, key):
            raise MobileSSDError(
                f"{folder / 'config.yaml'}: {key} was {getattr(began, key)} when the run began and cannot change; put it "
                "back, or begin another run from this one's weights with --weights"
            )
    return began


def resumed(request: Request, state: RunState) -> Request:
    """The request with what the run's own command line said of its data, wherever this one says nothing.

    What it says otherwise shows in the fingerprint of the data, but for the class map, which only the beginning of a run
    looks at: that is compared here. Raises MobileSSDError."""
    silent = type(request)("", request.config, request.output)
    said = {OLD_FIELDS.get(name, name): value for name, value in state.meta["origin"]["request"].items()}
    kept = {name: value for name, value in said.items() if name in DATA_FIELDS}
    if request.class_map and request.class_map != kept["class_map"]:
        begun = ", ".join(f"{mine}={theirs}" for mine, theirs in kept["class_map"].items()) or "none"
        raise MobileSSDError(f"{request.output}: this run has the class map {begun}; leave --class-map out of --resume")
    return replace(request, **{n: v for n, v in kept.items() if getattr(request, n) == getattr(silent, n)})


def origin_of(request: Request, fingerprint: str, card: Card) -> dict[str, Any]:
    """What a state keeps; paths in full, so that a run can be resumed from another folder."""
    found = {name: getattr(request, name) for name in DATA_FIELDS}
    for name in ("data", "val", "images", "val_images"):
        if found[name] and os.path.exists(found[name]):
            found[name] = os.path.abspath(found[name])
    return {"request": found, "data": fingerprint, "card": card.to_json()}


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
