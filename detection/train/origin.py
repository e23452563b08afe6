"""What a run began with, kept in each of its states: its data, so that --resume alone goes on with the same, and its
card, so that the weights it began with are not needed again. Imports floors 0 to 3."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from detection.data.dataset import DetectionData
from detection.errors import MobileSSDError
from detection.ssd.network import build
from detection.ssd.spec import SSDSpec
from detection.train.config import TrainConfig
from detection.train.model import Prepared, set_momentum
from detection.train.state import RunState
from detection.weights.card import Card

if TYPE_CHECKING:
    from detection.train.request import Request

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
    "soft",
    "keep_soft",
    "ignore_soft",
    "classes",
    "class_map",
    "unknown",
)


def resumed(request: Request, state: RunState) -> Request:
    """The request with what the run's own command line said of its data, wherever this one says nothing.

    What it says otherwise shows in the fingerprint of the data; of the class map, which only the beginning of a run
    looks at, it is said here. Raises MobileSSDError."""
    silent = type(request)("", request.config, request.output)
    kept = {name: value for name, value in state.meta["origin"]["request"].items() if name in DATA_FIELDS}
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
    ssd = build(SSDSpec.from_dict(card.spec))
    set_momentum(ssd, config.norm_momentum)
    return Prepared(ssd, card, [f"network: {ssd.spec.backbone}, as it was at step {state.meta['step']}"])
