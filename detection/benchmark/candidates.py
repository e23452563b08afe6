"""What can be timed here: our own weights in every runtime and precision that is installed, and peers."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detection.errors import MissingPackageError, MobileSSDError
from detection.runtimes import ONLY, PACKAGES, READS, runtime_installed
from detection.runtimes.openvino import core
from detection.weights.card import Card
from detection.weights.checkpoint import save_checkpoint
from detection.weights.names import spec_for
from detection.weights.resize import resize_weights
from detection.weights.resolve import Weights

PRECISIONS = {
    "torch": ("float32", "bfloat16"),
    "torch-compiled": ("float32", "bfloat16"),
    "openvino": ("float32", "bfloat16"),
    "onnxruntime": ("float32",),
    "litert": ("float32",),
}
USUAL = [runtime for runtime in PACKAGES if runtime != "torch-compiled"]  # which compiles for a minute: when named
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
    for runtime in runtimes or USUAL:
        if not runtime_installed(runtime):
            if runtimes:
                raise MissingPackageError(f"runtime {runtime} is not installed: pip install {PACKAGES[runtime]}")
            continue
        for precision, shown in _precisions(weights, runtime, precisions):
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
        if 1 in batches and weights.path.suffix not in ONLY and weights.card.precision != "int8":
            found.append(Candidate(name, weights.source, "opencv dnn", "float32", count, 1, "opencv", "float32"))
    return found


def _precisions(weights: Weights, runtime: str, wanted: Sequence[str] | None) -> list[tuple[str, str]]:
    """(what `Detector` is told, what the table says) for a runtime."""
    suffix, source = weights.path.suffix, Path(weights.source).suffix
    if weights.exported and suffix not in READS[runtime]:
        return []
    if runtime == "litert" and not weights.exported:
        return [("auto", "as published")] if source == ".tflite" else []
    if weights.card.precision == "int8":
        return [("auto", "int8")] if wanted is None or "int8" in wanted else []
    known = [
        p for p in PRECISIONS[runtime] if p != "bfloat16" or (wanted is not None and p in wanted) or _bfloat16(runtime)
    ]
    return [(p, p) for p in known if wanted is None or p in wanted]


def _bfloat16(runtime: str) -> bool:
    """Whether this processor computes bfloat16 itself; elsewhere it is slow, and only timed on request."""
    if runtime != "openvino":
        return False
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


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
