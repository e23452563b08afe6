"""Batch norms for networks that came without: real statistics from pictures, the same function in evaluation mode.

Files that were made for inference have their norms folded into the convolutions; the importers give every layer a trivial
norm (mean 0, variance 1). Training with such norms would start by dividing each channel by its real deviation: a shock that
costs what was learned. Imports torch and backbones' bricks.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from backbones.blocks import ConvNormAct
from detection.core.errors import MobileSSDError


@torch.no_grad()
def rebuild_batch_norms(ssd: nn.Module, batches: Iterable[Tensor]) -> int:
    """Gives every batch norm of `ssd` the mean and variance that its convolution really has on `batches` (normalised
    float [N, 3, H, W]), and the scale and shift under which the outputs in evaluation mode stay what they were.

    With old (gamma, beta, mean, var) and measured (m, v): gamma' = gamma sqrt(v + eps) / sqrt(var + eps) and
    beta' = beta + gamma (m - mean) / sqrt(var + eps). Nothing upstream changes, so one pass over the pictures serves all
    layers. Returns the number of pictures seen; raises MobileSSDError without any.
    """
    layers = [m for m in ssd.modules() if isinstance(m, ConvNormAct) and isinstance(m.norm, nn.BatchNorm2d)]
    sums = {id(layer): [torch.zeros(()), torch.zeros(()), 0] for layer in layers}

    def note(layer: ConvNormAct):
        def hook(_: nn.Module, __: tuple, output: Tensor) -> None:
            values = output.double()
            kept = sums[id(layer)]
            kept[0] = kept[0] + values.sum((0, 2, 3))
            kept[1] = kept[1] + values.square().sum((0, 2, 3))
            kept[2] += values.shape[0] * values.shape[2] * values.shape[3]

        return hook

    handles = [layer.conv.register_forward_hook(note(layer)) for layer in layers]
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
        raise MobileSSDError("batch norms cannot be rebuilt without pictures")
    for layer in layers:
        total, squares, count = sums[id(layer)]
        mean = total / count
        _replace(layer.norm, mean, (squares / count - mean.square()).clamp(min=0))
    return seen


def _replace(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() + scale * (mean - norm.running_mean.double())
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(shift)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
