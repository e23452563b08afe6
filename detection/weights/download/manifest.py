"""The list of weight shards in a TensorFlow.js `model.json`: foreign input, of which only plain file names are taken."""

from __future__ import annotations

import json
import math
from pathlib import Path

from detection.weights.download.archives import plain_name
from detection.weights.download.transfer import WrongContentError


def shards_of(manifest: Path) -> list[str]:
    """The names of the weight shards that a TensorFlow.js `model.json` lists, all plain file names."""
    try:
        groups = json.loads(manifest.read_text(encoding="utf-8"))["weightsManifest"]
        return [plain_name(name) for group in groups for name in group["paths"]]
    except (ValueError, KeyError, TypeError):
        raise WrongContentError("its model.json is none of TensorFlow.js") from None


def bytes_listed(manifest: Path) -> int:
    """How many bytes of weights a TensorFlow.js `model.json` describes."""
    sizes = {"float32": 4, "int32": 4, "float16": 2, "uint16": 2, "uint8": 1, "bool": 1}
    try:
        groups = json.loads(manifest.read_text(encoding="utf-8"))["weightsManifest"]
        weights = [weight for group in groups for weight in group["weights"]]
        return sum(math.prod(w["shape"]) * sizes[w.get("quantization", w)["dtype"]] for w in weights)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WrongContentError("its model.json is none of TensorFlow.js") from None
