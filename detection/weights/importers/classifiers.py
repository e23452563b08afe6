"""`.tflite` ImageNet classifiers -> classifiers of ours, and their backbones. Nothing in the file is run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from backbones import Classifier, build_classifier
from backbones.blocks import InvertedResidual
from detection.errors import BadWeightsError
from detection.ssd.spec import InputSpec
from detection.weights.importers.backbone_weights import BackboneWeights
from detection.weights.importers.fill import fill
from detection.weights.importers.flatbuffer import Model, Tensor, read_model
from detection.weights.importers.recognize import layers_of, recognise
from detection.weights.importers.tflite import normalisation

ENDS = {"mobilenet_v1": ("conv13",), "mobilenet_v2": ("top",)}


def import_tflite_classifier(
    path: str | os.PathLike, rounded: bool = True
) -> tuple[Classifier, tuple[str, ...], InputSpec]:
    """A `.tflite` ImageNet classifier (MobileNet V1 or V2, quantised or float) -> network, class names, input.

    The network answers logits [N, K] to images normalised as the `InputSpec` says; TensorFlow's files have K = 1001,
    column 0 "background". Names are those inside the file or in a labels file beside it, else empty. Batch norms are
    trivial: the file had folded them.
    rounded: the activations of a quantised file are rounded to its own grids, as its own runtime does (forward hooks,
    no part of the state dict), so that close calls end as they do there; False: real numbers throughout.
    Raises BadWeightsError, one line, for a detector or another network.
    """
    model = read_model(Path(path))
    if model.post is not None:
        raise BadWeightsError(f"{path}: a detector (it holds TFLite_Detection_PostProcess), not a classifier")
    convolutions = [node.convolution for node in model.nodes if node.convolution is not None]
    found = recognise([c.shape for c in convolutions[:-1]], ENDS)
    if found is None or found.convolutions != len(convolutions) - 1:
        raise BadWeightsError(
            f"{path}: no MobileNet V1 or V2 classifier of a known width ({len(convolutions)} convolutions)"
        )
    last = convolutions[-1]
    network = build_classifier(found.name, last.shape[0], **found.options)
    assert isinstance(network, Classifier)
    fill(layers_of(network.backbone), convolutions[:-1], str(path))
    with torch.no_grad():
        network.fc.weight.copy_(torch.from_numpy(np.array(last.weight[:, :, 0, 0])))
        network.fc.bias.copy_(torch.from_numpy(np.array(last.bias)))
    entry = model.tensors[model.inputs[0]]
    mean, std = normalisation(entry)
    if rounded:
        _round_as_file(network, model)
    labels = tuple(model.labels or ())
    contract = InputSpec(size=(entry.shape[1], entry.shape[2]), mean=mean, std=std)
    return network.eval(), labels if len(labels) == last.shape[0] else (), contract


def import_classifier(path: Path) -> tuple[Classifier, tuple[str, ...], InputSpec] | None:
    """As `import_tflite_classifier`; None for a detector."""
    return None if read_model(path).post is not None else import_tflite_classifier(path)


def import_backbone(path: Path) -> BackboneWeights | None:
    """The backbone of a `.tflite` classifier; None for a detector."""
    if read_model(path).post is not None:
        return None
    network, _, contract = import_tflite_classifier(path, rounded=False)
    return BackboneWeights(network.backbone, contract, "same", folded=True)


def _round_as_file(network: Classifier, model: Model) -> None:
    """Hooks that round every activation to the scale, zero point and range of the file's own tensor."""
    grids = [(node.op, model.tensors[int(node.output.split(":")[0])]) for node in model.nodes]
    convolutions = [tensor for op, tensor in grids if "conv" in op]
    sums = [tensor for op, tensor in grids if op == "add"]
    pools = [tensor for op, tensor in grids if op in ("averagepool2d", "mean")]
    if any(tensor.scale is None for tensor in convolutions + sums + pools):
        return  # a float file
    layers: list[nn.Module] = [*layers_of(network.backbone), network.fc]
    residuals = [m for m in network.backbone.modules() if isinstance(m, InvertedResidual) and m.residual]
    for module, tensor in zip(layers + residuals, convolutions + sums, strict=True):
        grid = _Grid(tensor)
        module.register_forward_hook(lambda _module, _inputs, output, grid=grid: grid(output))
    for pool in map(_Grid, pools):
        network.fc.register_forward_pre_hook(lambda _module, inputs, grid=pool: (grid(inputs[0]),))


class _Grid:
    def __init__(self, tensor: Tensor) -> None:
        assert tensor.scale is not None
        self.scale, self.zero = float(tensor.scale[0]), 0.0 if tensor.zero is None else float(tensor.zero[0])
        self.low = -128 if tensor.signed else 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        steps = (x / self.scale + self.zero).round().clamp(self.low, self.low + 255)
        return (steps - self.zero) * self.scale
