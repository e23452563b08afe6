"""From float weights to an int8 file whose loss is known: quantise, measure, keep more in float32 until it is small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from detection.detector import Detector
from detection.errors import MobileSSDError
from detection.evaluate.truth import GroundTruth
from detection.export.calibration import PLANS, Int8Plan, calibration_images
from detection.export.compare import average_precision, match
from detection.export.file_formats import FILE_FORMATS, FileFormat, check_ending
from detection.export.staging import files_of, size_of, staged
from detection.export.write import detector_of
from detection.runtimes.open import open_runtime
from detection.weights.formats import ONNX
from detection.weights.resolve import Weights, open_weights


@dataclass(frozen=True)
class Quantised:
    """What came of it. plan: what stayed in float32. float_ap, ap: COCO AP before and after, None without ground truth.
    agreement: the share of the float network's detections above 0.3 that are still found. sizes in bytes."""

    plan: Int8Plan
    float_file: Path
    calibrated_on: int
    agreement: float
    float_size: int
    size: int
    float_ap: float | None = None
    ap: float | None = None
    images: int = 0

    @property
    def drop(self) -> float | None:
        return None if self.ap is None or self.float_ap is None else self.float_ap - self.ap


@dataclass(frozen=True)
class QuantizeOrder:
    """What is wanted. output, format: the file to write. calibration: the folder of images; number: how many at most.
    truth: ground truth to measure AP on. max_drop: how much AP may fall. force: keep the best
    even if it falls by more."""

    output: Path
    format: str
    calibration: Path
    number: int = 300
    truth: GroundTruth | None = None
    max_drop: float = 0.005
    force: bool = False
    threads: int | None = None


def quantize(source: Weights, order: QuantizeOrder, tell: Callable[[str], None] = lambda line: None) -> Quantised:
    """Writes `order.output`. tell: is given a line about each attempt.

    Raises MobileSSDError, one line, and leaves no file, where every plan loses more AP than allowed (unless forced).
    """
    target = FILE_FORMATS[order.format]
    _refuse_weights(source, target)
    target.check_installed("quantising", target.int8_needs)
    if source.card.precision == "int8":
        raise MobileSSDError(f"{source.source}: an int8 file already; name the float weights it was made of")
    if source.card.interface:
        raise MobileSSDError(f"{source.source}: made for another system; name the weights it was made of")
    check_ending(target, order.output)
    images = calibration_images(order.calibration, source.card.input_size, order.number)
    file = float_file(source, order.format)
    before = detector_of(source, open_runtime(source, target.reader or "auto", threads=order.threads))
    float_ap = None
    if order.truth is not None:
        float_ap = average_precision(before, order.truth)
        tell(f"float32: AP {float_ap:.4f} on {len(order.truth.image_ids)} images")
    with staged(order.output) as path:
        best: Quantised | None = None
        for plan in PLANS if float_ap is not None else PLANS[:1]:
            attempt = path.with_name(f"attempt{path.suffix}")
            result = _attempt(source, order, plan, file, attempt, images, before, float_ap)
            tell(_line(result))
            if best is None or (result.ap or 0) > (best.ap or 0):
                best = result
                _move(attempt, path)
            if result.drop is None or result.drop <= order.max_drop:
                break
        assert best is not None
        if best.drop is not None and best.drop > order.max_drop and not order.force:
            raise MobileSSDError(
                f"{order.output}: not written: AP falls from {float_ap:.4f} to {best.ap:.4f}, by more than "
                f"{order.max_drop:g}; --max-drop allows more, --force keeps it"
            )
    return best


def float_file(source: Weights, format: str) -> Path:
    """The float graph that is quantised: an exported file as it is, else the runtime's own conversion."""
    target = FILE_FORMATS[format]
    if not source.exported:
        return target.load(target.float_form, "detection.runtimes")(source)
    if source.format not in ((ONNX, target.format) if target.float_form else (target.format,)):
        ending = target.format.ending
        raise MobileSSDError(f"{source.path}: does not become {ending} any more; name the weights it was made of")
    return source.path


def _refuse_weights(source: Weights, target: FileFormat) -> None:
    """Weights, where no runtime of ours makes the float graph of this format of them."""
    if not source.exported and not target.float_form:
        first = f"mobilessd export {source.source} --output FILE{target.format.ending}"
        raise MobileSSDError(f"{source.source}: int8 {target.name} is made of the float file: {first}, then name that")


def _attempt(
    source: Weights,
    order: QuantizeOrder,
    plan: Int8Plan,
    file: Path,
    target: Path,
    calibrated_on: np.ndarray,
    before: Detector,
    float_ap: float | None,
) -> Quantised:
    form = FILE_FORMATS[order.format]
    assert form.int8 is not None
    tool = form.int8_needs[-1]
    recipe: dict[str, Any] = {
        "tool": f"{tool} {metadata.version(tool)}",
        "images": len(calibrated_on),
        "float32": plan.name,
    }
    card = replace(source.card, precision="int8", recipe=source.card.recipe | {"quantization": recipe})
    form.load(form.int8)(file, target, card, calibrated_on, plan)
    weights = open_weights(target)
    after = detector_of(weights, open_runtime(weights, form.reader or "auto", threads=order.threads))
    result = Quantised(
        plan,
        file,
        len(calibrated_on),
        _agreement(before, after, calibrated_on[:50]),
        size_of(file),
        size_of(target),
        float_ap,
    )
    if order.truth is None:
        return result
    ap = average_precision(after, order.truth)
    return replace(result, ap=ap, images=len(order.truth.image_ids))


def _agreement(before: Detector, after: Detector, images: np.ndarray) -> float:
    """The share of one's detections above 0.3 that the other finds at nearly the same place (5 % of the image)."""
    total = missing = 0
    size = images.shape[1:3]
    for first in range(0, len(images), 10):
        batch = images[first : first + 10]
        for a, b in zip(zip(*before.runtime(batch)), zip(*after.runtime(batch))):
            sure, lost, _ = match(before.finish(*a, size).above(0.3), after.finish(*b, size), 0.05)
            total, missing = total + sure, missing + lost
    return 1 - missing / total if total else 1.0


def _line(result: Quantised) -> str:
    said = f"{result.plan.name}: {100 * result.agreement:.1f} % of the detections kept"
    if result.ap is not None and result.drop is not None:
        said += f", AP {result.ap:.4f} ({-result.drop:+.4f})"
    return f"{said}, {result.size / 1e6:.1f} MB"


def _move(attempt: Path, path: Path) -> None:
    """Both lie in the staging folder."""
    for written, file in zip(files_of(attempt), files_of(path)):
        written.replace(file)
