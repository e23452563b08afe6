"""A published backbone on its way into a detector: what it was trained on, and how it is fitted to other rules."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from detection.ssd.spec import InputSpec, SSDSpec
from detection.weights.importers.recognize import layers_of

IMAGENET = InputSpec((224, 224), (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))


@dataclass(frozen=True)
class BackboneWeights:
    """A published backbone: its network, filled; the input it was trained on; "same" or "symmetric" padding; whether its
    batch norms are trivial because the file had folded them; detector: the whole network, where the file holds one."""

    backbone: nn.Module
    input: InputSpec
    padding: str
    folded: bool
    detector: SSDSpec | None = None


@torch.no_grad()
def renormalise(backbone: nn.Module, theirs: InputSpec, ours: InputSpec) -> None:
    """Changes the first layer of a backbone that expects `theirs`, so that it says the same of images normalised as ours.

    x_theirs = x_ours * s_o / s_t + (m_o - m_t) / s_t a channel: the factor goes into the weights, the constant into the
    running mean of the norm behind them, or into the bias.
    """
    first = layers_of(backbone)[0]
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
def change_eps(backbone: nn.Module, eps: float) -> None:
    """Norms of another epsilon, which scale as before: the factor goes into gamma."""
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.eps != eps:
            assert norm.running_var is not None
            norm.weight *= ((norm.running_var + eps) / (norm.running_var + norm.eps)).sqrt()
            norm.eps = eps
