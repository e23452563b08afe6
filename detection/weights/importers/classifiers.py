"""ImageNet classifiers as classifiers, and as the backbones of detectors. Reads no file by running anything in it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from backbones import Classifier, build_classifier
from backbones.blocks import InvertedResidual
from detection.errors import BadWeightsError
from detection.ssd.network import SSD
from detection.ssd.spec import InputSpec
from detection.weights.checkpoint import LoadReport, load_into
from detection.weights.importers.fill import fill
from detection.weights.importers.flatbuffer import Model, Tensor, read_model
from detection.weights.importers.recognize import layers_of, recognise
from detection.weights.importers.tflite import normalisation

IMAGENET = InputSpec((224, 224), (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))
ENDS = {"mobilenet_v1": ("conv13",), "mobilenet_v2": ("top",)}


@dataclass(frozen=True)
class BodyWeights:
    """A published body: its network, filled; the input it was trained on; "same" or "symmetric" padding; whether its
    batch norms are trivial because the file had folded them."""

    backbone: nn.Module
    input: InputSpec
    padding: str
    folded: bool


@dataclass
class BackboneReport(LoadReport):
    """What `load_backbone` did: `LoadReport`, and in `notes` where the body and the detector follow other rules."""

    notes: list[str] = field(default_factory=list)
    folded: bool = False

    def __str__(self) -> str:
        return "; ".join([super().__str__(), *self.notes])


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
    body = recognise([c.shape for c in convolutions[:-1]], ENDS)
    if body is None or body.convolutions != len(convolutions) - 1:
        raise BadWeightsError(
            f"{path}: no MobileNet V1 or V2 classifier of a known width ({len(convolutions)} convolutions)"
        )
    last = convolutions[-1]
    network = build_classifier(body.name, last.shape[0], **body.options)
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


def read_body(name_or_path: str | os.PathLike) -> BodyWeights:
    """The body of any weights known, by zoo name or path: an ImageNet classifier (.tflite; state dict of torchvision or
    qfgaohao in .safetensors or .pth), or any detector that `mobilessd` reads. Raises MobileSSDError otherwise."""
    from detection.weights.formats import card_of
    from detection.weights.importers import qfgaohao, torchvision
    from detection.weights.importers.state_dicts import read_state_dict
    from detection.weights.names import load, resolve

    path = resolve(name_or_path)
    if path.suffix == ".tflite" and not card_of(path) and read_model(path).post is None:
        network, _, contract = import_tflite_classifier(path, rounded=False)
        return BodyWeights(network.backbone, contract, "same", True)
    if path.suffix in (".pth", ".pt") or (path.suffix == ".safetensors" and not card_of(path)):
        state = read_state_dict(path)
        if (found := torchvision.body_of(state, str(path))) is not None:
            return BodyWeights(found[0], IMAGENET, "symmetric", found[1])
        if (body := qfgaohao.body_of(state, str(path))) is not None:
            return BodyWeights(body, qfgaohao.INPUT, "symmetric", False)
    ssd, card = load(path)
    return BodyWeights(ssd.backbone, ssd.spec.input, ssd.spec.padding, card.folded_norms)


def load_backbone(ssd: SSD, path: str | os.PathLike) -> BackboneReport:
    """Copies a published body's weights, by zoo name or path, into a detector's backbone; extras and heads keep theirs.

    A body trained with another normalisation than the detector's (`spec.input`) is converted: the first layer absorbs
    the difference, exactly everywhere but at the image's border, where zero padding now means another grey.
    Raises BadWeightsError, one line, where the body is another network or of another width.
    """
    body = read_body(path)
    name, ours = body.backbone.name, ssd.backbone.name
    if name != ours:
        raise BadWeightsError(f"{path}: holds a {name}, the detector has a {ours}")
    _renormalise(body.backbone, body.input, ssd.spec.input)
    _change_eps(body.backbone, ssd.spec.norm_eps)
    found = load_into(ssd.backbone, body.backbone.state_dict())
    report = BackboneReport(found.loaded, found.missing, found.unexpected, found.mismatched, folded=body.folded)
    if report.mismatched or not report.loaded:
        raise BadWeightsError(f"{path}: a {name} of another width than the detector's (alpha, min_depth): {report}")
    if body.padding != ssd.spec.padding and name != "vgg16":
        report.notes.append(f"trained with {body.padding} padding, the detector pads {ssd.spec.padding}: fine-tune it")
    return report


@torch.no_grad()
def _renormalise(body: nn.Module, theirs: InputSpec, ours: InputSpec) -> None:
    """Changes the first layer of a body that expects `theirs`, so that it says the same of images normalised as ours.

    x_theirs = x_ours * s_o / s_t + (m_o - m_t) / s_t a channel: the factor goes into the weights, the constant into the
    running mean of the norm behind them, or into the bias.
    """
    first = layers_of(body)[0]
    weight = first.conv.weight
    mean_o, std_o, mean_t, std_t = (
        torch.tensor(v, dtype=torch.float64) for v in (ours.mean, ours.std, theirs.mean, theirs.std)
    )
    if ours.color != theirs.color:
        weight.copy_(weight.flip(1))
        mean_t, std_t = mean_t.flip(0), std_t.flip(0)
    exact = weight.double()
    shift = (exact.sum((2, 3)) * ((mean_o - mean_t) / std_t)).sum(1)
    weight.copy_(exact * (std_o / std_t)[:, None, None])
    if isinstance(first.norm, nn.BatchNorm2d):
        assert first.norm.running_mean is not None
        first.norm.running_mean -= shift.to(first.norm.running_mean.dtype)
    else:
        assert first.conv.bias is not None
        first.conv.bias += shift.to(first.conv.bias.dtype)


@torch.no_grad()
def _change_eps(body: nn.Module, eps: float) -> None:
    """Norms of another epsilon, which scale as before: the factor goes into gamma."""
    for norm in body.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.eps != eps:
            assert norm.running_var is not None
            norm.weight *= ((norm.running_var + eps) / (norm.running_var + norm.eps)).sqrt()
            norm.eps = eps


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
