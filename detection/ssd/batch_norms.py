"""Batch norms for networks that came without, and the way back: the same function in evaluation mode.

Files that were made for inference have their norms folded into the convolutions; the importers give every layer a
trivial norm (mean 0, variance 1). Training with such norms would start by dividing each channel by its real deviation:
a shock that costs what was learned.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from backbones.blocks import ConvNormAct
from detection.errors import MobileSSDError


@torch.no_grad()
def rebuild_batch_norms(ssd: nn.Module, batches: Iterable[Tensor], but: Container[nn.Module] = ()) -> int:
    """Gives every batch norm of `ssd` the mean and variance that really reach it on `batches` (normalised float
    [N, 3, H, W]), and the scale and shift under which the outputs in evaluation mode stay what they were.

    With old (gamma, beta, mean, var) and measured (m, v): gamma' = gamma sqrt(v + eps) / sqrt(var + eps) and
    beta' = beta + gamma (m - mean) / sqrt(var + eps). Nothing upstream changes, so one pass over the images serves
    all layers. but: norms that stay as they are. Returns the number of images seen; raises MobileSSDError without any.
    """
    norms = [m for m in ssd.modules() if isinstance(m, nn.BatchNorm2d) and m not in but]
    sums = {id(norm): _Sums() for norm in norms}
    handles = [norm.register_forward_pre_hook(lambda module, inputs: sums[id(module)].add(inputs[0])) for norm in norms]
    was_training, seen = ssd.training, 0
    ssd.eval()
    try:
        for batch in batches:
            ssd(batch)
            seen += len(batch)
    finally:
        for handle in handles:
            handle.remove()
        ssd.train(was_training)
    if not seen:
        raise MobileSSDError("batch norms cannot be rebuilt without images")
    for norm in norms:
        found = sums[id(norm)]
        if found.count:
            mean = found.total / found.count
            _replace(norm, mean, (found.squares / found.count - mean.square()).clamp(min=0))
    return seen


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> None:
    """The inverse: moves the scale of every batch norm into its convolution, in place, and leaves it trivial statistics
    (mean 0, variance 1, scale 1) and a shift. The outputs in evaluation mode stay what they were."""
    for layer in network.modules():
        if not (isinstance(layer, ConvNormAct) and isinstance(layer.norm, nn.BatchNorm2d)):
            continue
        norm, conv = layer.norm, layer.conv
        assert norm.running_mean is not None and norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.weight.copy_(weight)
        norm.bias.copy_(bias)
        if conv.bias is not None:
            conv.bias.zero_()
        norm.weight.fill_(1)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)


class _Sums:
    """Sum, sum of squares and count of what passed through a layer, by channel, in double precision."""

    def __init__(self) -> None:
        self.total = self.squares = torch.zeros((), dtype=torch.float64)
        self.count = 0

    def add(self, x: Tensor) -> None:
        values = x.detach().double()
        self.total = self.total.to(x.device) + values.sum((0, 2, 3))
        self.squares = self.squares.to(x.device) + values.square().sum((0, 2, 3))
        self.count += values.shape[0] * values.shape[2] * values.shape[3]


def _replace(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() + scale * (mean - norm.running_mean.double())
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(shift)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
