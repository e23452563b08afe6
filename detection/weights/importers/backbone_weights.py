"""A published backbone on its way into a detector: what it was trained on, and how it is fitted to other rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from backbones import build_backbone
from backbones.shapes import shapes_only
from detection.errors import BadWeightsError
from detection.ssd.spec import InputSpec, SSDSpec
from detection.weights.importers.recognize import ALPHAS, layers_of
from detection.weights.importers.state_dicts import Pair, copy_into

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


def first_fitting(
    name: str,
    variants: Sequence[dict[str, Any]],
    stem: Tensor,
    pairs: Callable[[nn.Module], Iterable[Pair]],
    state: Mapping[str, Tensor],
    file: str,
) -> tuple[nn.Module, bool]:
    """A backbone filled with a state dict, its width found by trying, and whether the file had folded its norms.

    variants: options beside alpha, each tried with every width whose first layer has the shape of `stem`; pairs: a network
    -> where the file keeps its layers. Raises BadWeightsError, one line, where none fits, for the first that came near.
    """
    reason: BadWeightsError | None = None
    last = ["conv13"] if name == "mobilenet_v1" else ["top"]
    for alpha in ALPHAS:
        for variant in variants:
            with shapes_only():
                backbone = build_backbone(name, last, alpha=alpha, **variant)
            if layers_of(backbone)[0].conv.weight.shape != stem.shape:
                continue
            backbone = build_backbone(name, last, alpha=alpha, **variant)
            try:
                return backbone, copy_into(backbone, pairs(backbone), state, file)
            except BadWeightsError as error:
                reason = reason or error
    raise reason or BadWeightsError(f"{file}: a {name} of no known width")


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
