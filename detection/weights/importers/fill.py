"""Copies what a published file holds into layers of ours, shape by shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from backbones.blocks import ConvNormAct
from detection.errors import BadWeightsError
from detection.weights.importers.graph import Convolution, Head


def fill(layers: list[ConvNormAct], convolutions: list[Convolution], file: str) -> None:
    """Copies convolutions into layers, one for one and in order; every shape is compared first."""
    for layer, source in zip(layers, convolutions, strict=False):
        if tuple(layer.conv.weight.shape) != source.shape:
            raise BadWeightsError(
                f"{file}: {source.name} has shape {list(source.shape)} where the network has "
                f"{list(layer.conv.weight.shape)}"
            )
    if len(layers) != len(convolutions):
        raise BadWeightsError(f"{file}: {len(convolutions)} convolutions where the network has {len(layers)}")
    for layer, source in zip(layers, convolutions):
        fill_layer(layer, source)


@torch.no_grad()
def fill_layer(layer: ConvNormAct, source: Convolution) -> None:
    """One convolution, its batch norm whole or trivial."""
    layer.conv.weight.copy_(torch.from_numpy(np.array(source.weight)))
    if isinstance(layer.norm, nn.BatchNorm2d):
        fill_norm(layer.norm, source)
    else:
        assert layer.conv.bias is not None
        layer.conv.bias.copy_(torch.from_numpy(np.array(folded(source).bias)))


@torch.no_grad()
def fill_norm(norm: nn.BatchNorm2d, source: Convolution, scale: np.ndarray | float = 1.0) -> None:
    """The batch norm behind a convolution: the file's own, or a trivial one with its bias; `scale` [channels] beside it.

    A file's epsilon other than the network's goes into gamma, so that the spec's one holds for all norms.
    """
    if source.norm is None:
        fill_trivial_norm(norm, source.bias, scale)
        return
    gamma, beta, mean, variance, eps = source.norm
    if eps != norm.eps or np.any(scale != 1.0):
        ratio = np.sqrt((variance.astype(np.float64) + norm.eps) / (variance.astype(np.float64) + eps))
        gamma = gamma * ratio * scale
        mean = np.divide(
            mean, scale, out=np.array(mean, np.float64), where=np.not_equal(scale, 0)
        )  # of x, not x * scale
    for target, value in zip(
        (norm.weight, norm.bias, norm.running_mean, norm.running_var), (gamma, beta, mean, variance)
    ):
        assert target is not None
        target.copy_(torch.from_numpy(np.array(value, np.float32)))


def folded(source: Convolution) -> Convolution:
    """The same convolution with its whole batch norm, if it has one, in weights and bias."""
    if source.norm is None:
        return source
    gamma, beta, mean, variance, eps = source.norm
    factor = gamma / np.sqrt(variance.astype(np.float64) + eps)
    weight = (source.weight * factor.reshape(-1, *[1] * (source.weight.ndim - 1))).astype(np.float32)
    return replace(source, weight=weight, bias=(beta - mean * factor).astype(np.float32), norm=None)


@torch.no_grad()
def fill_trivial_norm(norm: nn.BatchNorm2d, bias: np.ndarray, scale: np.ndarray | float = 1.0) -> None:
    """A batch norm that multiplies by `scale` and adds `bias` [channels]: mean 0, variance 1."""
    assert norm.running_mean is not None and norm.running_var is not None
    gamma = np.sqrt(1 + np.float64(norm.eps)) * scale * np.ones(len(bias))
    norm.weight.copy_(torch.from_numpy(gamma.astype(np.float32)))
    norm.bias.copy_(torch.from_numpy(np.array(bias, np.float32)))
    norm.running_mean.zero_()
    norm.running_var.fill_(1)


@torch.no_grad()
def fill_plain(conv: nn.Conv2d, source: Convolution, file: str, boxes_of_tensorflow: bool = False) -> None:
    """A convolution without a norm; a bias of zeros may be left out. `boxes_of_tensorflow`: its outputs are (ty, tx,
    th, tw) within each anchor and are put into our order (tx, ty, tw, th)."""
    source = folded(source)
    weight, bias = source.weight, source.bias
    if boxes_of_tensorflow:
        order = np.arange(len(bias)).reshape(-1, 4)[:, [1, 0, 3, 2]].ravel()
        weight, bias = weight[order], bias[order]
    if tuple(conv.weight.shape) != weight.shape:
        raise BadWeightsError(
            f"{file}: {source.name} has shape {list(weight.shape)}, expected {list(conv.weight.shape)}"
        )
    conv.weight.copy_(torch.from_numpy(np.array(weight)))
    if conv.bias is not None:
        conv.bias.copy_(torch.from_numpy(np.array(bias)))
    elif np.abs(bias).max() > 0:
        raise BadWeightsError(f"{file}: {source.name} has a bias where the network has none")


def fill_branch(branch: nn.Module, head: Head, file: str, boxes_of_tensorflow: bool = False) -> None:
    """The predictions of one map: [convolution], or [depthwise, convolution] with a norm between or none."""
    parts = list(branch) if isinstance(branch, nn.Sequential) else [branch]
    if len(parts) != len(head.layers):
        raise BadWeightsError(
            f"{file}: the head at {head.layers[-1].name} has {len(head.layers)} layers, not {len(parts)}"
        )
    for part, source in zip(parts[:-1], head.layers[:-1]):
        if isinstance(part, ConvNormAct):
            fill([part], [source], file)
        else:
            fill_plain(part, source, file)
    fill_plain(parts[-1], head.layers[-1], file, boxes_of_tensorflow)
