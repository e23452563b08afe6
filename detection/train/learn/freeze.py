"""Parts of a network that do not learn."""

from __future__ import annotations

import re

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detection.errors import MobileSSDError
from detection.train.config_parts import RunConfig


def stages(backbone: nn.Module) -> list[list[str]]:
    """The layers of a backbone by resolution: names of its units (children, lists taken apart), one list a halving.

    A unit that halves the map begins a stage (for VGG, the layer behind a pool does), as torchvision counts them:
    MobileNets and VGG have five.
    """
    found: list[list[str]] = []
    for name, unit in _units(backbone):
        strides = any(isinstance(layer, nn.Conv2d) and max(layer.stride) > 1 for layer in unit.modules())
        behind_pool = re.fullmatch(r"conv[1-9]_1", name) is not None
        if not found or strides or behind_pool:
            found.append([])
        found[-1].append(name)
    return found


def freeze(network: nn.Module, what: int | tuple[str, ...]) -> list[str]:
    """Takes the gradients from parts of a network and returns the names of their parameters.

    what: so many stages of `network.backbone`, or prefixes of module names ("backbone.blocks.0", "extras").
    Raises MobileSSDError for more stages than there are, and for a prefix that no parameter has.
    """
    prefixes = _prefixes(network, what)
    for prefix in prefixes:
        if not any(_below(name, prefix) for name, _ in network.named_parameters()):
            known = ", ".join(name for name, _ in network.named_children())
            raise MobileSSDError(f"freeze: nothing in the network is named {prefix!r}; it has {known}")
    frozen = []
    for name, parameter in network.named_parameters():
        if any(_below(name, prefix) for prefix in prefixes):
            parameter.requires_grad_(False)
            frozen.append(name)
    return frozen


def train_mode(network: nn.Module, config: RunConfig) -> None:
    """`network.train()`, but batch norms of frozen parts, or all with `norms: frozen`, keep and use their statistics.

    Call it again behind every evaluation. Frozen norms still learn their scale and shift, unless they are in a frozen
    part: the statistics are what small batches spoil.
    """
    network.train()
    for layer in norms_of(network, ("",) if config.norms == "frozen" else config.freeze):
        layer.eval()


def norms_of(network: nn.Module, what: int | tuple[str, ...]) -> list[nn.Module]:
    """The batch norms of the parts that `what` names, as in `freeze`."""
    prefixes = _prefixes(network, what)
    return [
        layer
        for name, layer in network.named_modules()
        if isinstance(layer, _BatchNorm) and any(_below(name, prefix) for prefix in prefixes)
    ]


def _prefixes(network: nn.Module, what: int | tuple[str, ...]) -> list[str]:
    if not isinstance(what, int):
        return list(what)
    if what == 0:
        return []
    by_stage = stages(network.get_submodule("backbone"))
    if what > len(by_stage):
        raise MobileSSDError(f"freeze: {what} stages, but the backbone has {len(by_stage)}")
    return [f"backbone.{name}" for stage in by_stage[:what] for name in stage]


def _units(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    units: list[tuple[str, nn.Module]] = []
    for name, child in backbone.named_children():
        if isinstance(child, (nn.ModuleList, nn.Sequential)):
            units += [(f"{name}.{inner}", unit) for inner, unit in child.named_children()]
        else:
            units.append((name, child))
    return units


def _below(name: str, prefix: str) -> bool:
    return prefix == "" or name == prefix or name.startswith(prefix + ".")
