"""Networks as OpenVINO's own: files read, with what a stranger may have put into them looked at; checkpoints converted once
and kept in the cache by their content's hash."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detection.errors import BadWeightsError
from detection.files import home
from detection.runtimes.openvino_library import library
from detection.weights.checkpoint import load_checkpoint
from detection.weights.formats import OPENVINO
from detection.weights.onnx_check import MOST_HELD, MOST_WORK
from detection.weights.openvino_check import check_openvino
from detection.weights.resolve import Weights

CARD = ["mobilessd", "card"]
OUTPUTS = ("encodings", "logits")


def read_model(core: Any, path: Path) -> Any:
    """Raises BadWeightsError, one line, for a file that OpenVINO cannot read, or should not be given."""
    if path.suffix == OPENVINO.ending:
        check_openvino(path)
    with explained(path):
        return core.read_model(path)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What OpenVINO says of a file that it cannot read or compile becomes one line; it tells people in RuntimeErrors, and
    names that are no text in UnicodeDecodeErrors."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [""])[-1][:160]
        raise BadWeightsError(f"{path}: OpenVINO cannot read it ({reason}); export it again") from None


def check_model(model: Any, path: Path) -> None:
    """Raises BadWeightsError, one line, for a description with loops or with a step that asks for more memory or work than
    those of detectors do (`weights.onnx_check`), before anything is compiled. Of ours and of anybody's: it costs
    milliseconds."""
    work = 0
    for step in model.get_ops():
        kind = step.get_type_name()
        if kind in ("Loop", "TensorIterator", "If", "ReadValue", "Assign"):
            raise BadWeightsError(f"{path}: was not opened: it holds {kind}, which no detector does; export it again")
        for output in step.outputs():
            if output.get_partial_shape().is_dynamic:
                continue
            if math.prod(output.get_shape()) > MOST_HELD:
                raise BadWeightsError(
                    f"{path}: was not opened: {kind} asks for more than {MOST_HELD:,} numbers at a time"
                )
            if kind in ("Convolution", "GroupConvolution"):  # [out, in, h, w]; [groups, out, in, h, w]
                weight = step.input(1).get_partial_shape()
                work += math.prod(output.get_shape()) * (
                    0 if weight.is_dynamic else math.prod([*weight.to_shape()][1 if kind == "Convolution" else 2 :])
                )
                if work > MOST_WORK:
                    raise BadWeightsError(
                        f"{path}: was not opened: more than {MOST_WORK:,} multiply-adds for one image"
                    )


def only_raw_outputs(model: Any, path: Path) -> Any:
    """The model with the outputs encodings and logits, in that order, and no other (a file may hold NMS behind them).
    BadWeightsError for one that has them not."""
    by_name = {name: output for output in model.outputs for name in output.get_names()}
    if not set(OUTPUTS) <= set(by_name):
        raise BadWeightsError(f"{path}: has no outputs encodings and logits; export it again")
    if [by_name[name].get_index() for name in OUTPUTS] == [0, 1] and len(model.outputs) == 2:
        return model
    return library().Model([by_name[name] for name in OUTPUTS], model.get_parameters(), model.get_name())


def cache_path(weights: Weights) -> Path:
    """Where the OpenVINO form of a checkpoint lies: `MOBILESSD_HOME/openvino/<hash of the weights>-<version>.xml`."""
    from importlib import metadata

    version = ".".join(metadata.version("openvino").split(".")[:3])
    return home() / "openvino" / f"{weights.path.stem[:40]}-{weights.sha256[:16]}-{version}{OPENVINO.ending}"


def converted(weights: Weights) -> Path:
    """The OpenVINO form of a checkpoint, made once and kept at `cache_path`."""
    target = cache_path(weights)
    if not target.exists():
        ssd, _ = load_checkpoint(weights.path)
        save(convert(ssd), target, weights.card.to_json())
    return target


def convert(ssd: Any) -> Any:
    """A network as an `openvino.Model` that takes uint8 RGB [N, h, w, 3], N free."""
    openvino = library()
    import torch

    from detection.runtimes.torch import fuse
    from detection.ssd.network import Deployable

    network = Deployable(fuse(copy.deepcopy(ssd).eval())).eval()
    height, width = ssd.spec.input.size
    example = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    # torch calls tracing deprecated. torch.export and what OpenVINO makes of it give the very same graph, but take 7.4 s
    # for SSDLite MobileNetV2 in the place of 1.0 s (two x86 cores, torch 2.14, OpenVINO 2026.4; 5.7 s of it are OpenVINO's
    # decomposition of the program): the first image of every checkpoint would wait for that.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "`?torch.jit", FutureWarning)
        traced = torch.jit.trace(network, example, check_trace=False)  # the check runs it all again
    with torch.no_grad():
        model = openvino.convert_model(
            traced, example_input=example, input=[([-1, height, width, 3], openvino.Type.u8)]
        )
    for output, name in zip(model.outputs, OUTPUTS):
        output.get_tensor().set_names({name})
    return model


def save(model: Any, target: Path, card: str, half: bool = False) -> None:
    """Writes .bin and .xml beside each other, each whole: the .xml, which is what a reader looks for, last.

    half: weights stored as float16, which every plugin widens at loading."""
    import tempfile

    target.parent.mkdir(parents=True, exist_ok=True)
    model.set_rt_info(card, CARD)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as folder:
        temporary = Path(folder) / target.name
        library().save_model(model, temporary, compress_to_fp16=half)
        target.unlink(missing_ok=True)  # never the old description beside the new numbers
        for written, file in reversed(list(zip(OPENVINO.files(temporary), OPENVINO.files(target)))):
            os.replace(written, file)
