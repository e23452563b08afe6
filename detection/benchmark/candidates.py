"""What can be timed here: our own weights in every runtime and precision that is installed, and peers."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detection.errors import MobileSSDError
from detection.runtimes.openvino_library import core
from detection.runtimes.table import RUNTIMES, RuntimeInfo, info_of
from detection.weights.card import Card
from detection.weights.checkpoint import save_checkpoint
from detection.weights.formats import ONNX, SAFETENSORS, TFLITE, by_ending
from detection.weights.names import spec_for
from detection.weights.resize import resize_weights
from detection.weights.resolve import Weights

TIMED = ("float32", "bfloat16")  # precisions; int8 is that of a file
PEERS = {"torchvision": "torchvision ssdlite320, random weights", "opencv": "OpenCV DNN"}


@dataclass(frozen=True)
class Candidate:
    """One thing to time. name: of the weights. weights: a path or name. kind: "ours", or a peer of `PEERS`.
    precision: as `Detector` takes it; `shown` is what the table says."""

    name: str
    weights: str
    runtime: str
    precision: str = "auto"
    threads: int = 1
    batch: int = 1
    kind: str = "ours"
    shown: str = ""

    def __str__(self) -> str:
        return f"{self.name}, {self.runtime} {self.shown}, {self.threads} threads, batch {self.batch}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def candidates_of(
    weights: Weights,
    name: str,
    runtimes: Sequence[str] | None,
    precisions: Sequence[str] | None,
    threads: Sequence[int],
    batches: Sequence[int],
) -> list[Candidate]:
    """All sensible combinations for one set of weights. A runtime asked for by name that cannot be is an error, one
    line; one that is merely not installed is left out."""
    found = []
    for runtime in runtimes or [row.name for row in RUNTIMES.values() if row.timed and row.installed]:
        info_of(runtime).check_installed()
        for precision, shown in _precisions(weights, RUNTIMES[runtime], precisions):
            found += [
                Candidate(name, weights.source, runtime, precision, count, batch, "ours", shown)
                for count in threads
                for batch in batches
            ]
    return found


def peers_of(weights: Weights, name: str, threads: Sequence[int], batches: Sequence[int]) -> list[Candidate]:
    """Other people's detectors: torchvision's, and OpenCV's DNN module on our ONNX file, where they are installed."""
    found = []
    for count in threads:
        if 1 in batches and importlib.util.find_spec("torchvision"):
            found.append(Candidate(PEERS["torchvision"], "", "torch", "float32", count, 1, "torchvision", "float32"))
        if 1 in batches and weights.format in (SAFETENSORS, ONNX) and weights.card.precision != "int8":
            found.append(Candidate(name, weights.source, "opencv dnn", "float32", count, 1, "opencv", "float32"))
    return found


def _precisions(weights: Weights, row: RuntimeInfo, wanted: Sequence[str] | None) -> list[tuple[str, str]]:
    """(what `Detector` is told, what the table says) for a runtime."""
    if weights.exported and weights.format.name not in row.formats:
        return []
    if row.name == "litert" and not weights.exported:
        return [("auto", "as published")] if by_ending(weights.source) == TFLITE else []
    if weights.card.precision == "int8":
        return [("auto", "int8")] if wanted is None or "int8" in wanted else []
    known = [p for p in TIMED if p in row.precisions]
    if wanted is None:
        return [(p, p) for p in known if p != "bfloat16" or _has_bfloat16(row)]
    return [(p, p) for p in known if p in wanted]


def _has_bfloat16(row: RuntimeInfo) -> bool:
    """Whether this processor computes bfloat16 itself; elsewhere it is slow, and only timed on request."""
    return row.name == "openvino" and "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def variant(weights: Weights, folder: Path, input_size: int | None, alpha: float | None) -> tuple[str, str]:
    """The same weights at another input size: a file in `folder`. Returns its path and a name for it. Needs torch."""
    name = weights.card.name or weights.path.stem
    if alpha is not None or input_size is None:
        raise MobileSSDError(f"{name}: weights have one width; --alphas goes with an architecture's name")
    path = folder / f"{name}_at_{input_size}.safetensors".replace("/", "_")
    return str(path), resize_weights(weights, input_size, path)


def random_weights(name: str, folder: Path, input_size: int | None, alpha: float | None) -> tuple[str, str]:
    """An architecture by name with random weights, as a file in `folder`: its path and a name for it. Needs torch."""
    from detection.ssd.network import build, feature_maps

    options = {k: v for k, v in {"input_size": input_size, "alpha": alpha}.items() if v is not None}
    ssd = build(spec_for(name, **options)).eval()
    words = [name, *([f"{alpha:g}"] if alpha is not None else []), *([f"at {input_size}"] if input_size else [])]
    shown = " ".join(words) + ", random weights"
    classes = tuple(f"class {k + 1}" for k in range(ssd.spec.num_classes))
    card = Card(ssd.spec.to_dict(), classes, tuple(range(1, len(classes) + 1)), feature_maps(ssd), name=shown)
    path = folder / f"{'_'.join(words)}.safetensors"
    save_checkpoint(path, ssd, card)
    return str(path), shown
