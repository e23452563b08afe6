"""Checkpoints: safetensors with a card in the header. Written atomically, read without ever unpickling anything."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from detection.errors import BadWeightsError, MobileSSDError, some
from detection.files import atomic_write
from detection.weights.card import Card
from detection.weights.card_files import safetensors_card
from detection.weights.guard import guarded

if TYPE_CHECKING:
    import torch

    from detection.ssd.network import SSD

    Network = TypeVar("Network", bound=torch.nn.Module)


@dataclass
class LoadReport:
    """What became of each tensor of a file: loaded, or left out and why."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for words, names in (("new", self.missing), ("ignored", self.unexpected)):
            if names:
                parts.append(f"{len(names)} {words} ({some(names, 3)})")
        if self.mismatched:
            shapes = [
                f"{name} is {list(theirs)}, needs {list(ours)}" for name, (theirs, ours) in self.mismatched.items()
            ]
            parts.append(f"{len(shapes)} of another shape ({some(shapes, 3)})")
        return "; ".join(parts)


def save_checkpoint(
    path: str | os.PathLike, ssd: SSD | dict[str, torch.Tensor], card: Card, half: bool = False
) -> None:
    """Writes a network (or its state) and its card. half: the kernels as float16, half the size; biases and norms, which
    are small and of which sums are made, stay float32."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = ssd if isinstance(ssd, dict) else ssd.state_dict()
    tensors = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue  # a counter that nothing here reads
        tensor = tensor.detach().cpu().contiguous()
        tensors[name] = tensor.to(torch.float16) if half and tensor.ndim > 1 else tensor.clone()
    try:
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, {"format": "mobilessd", "card": card.to_json()})
    except (OSError, SafetensorError) as error:
        raise MobileSSDError(f"{path}: cannot be written ({error})") from error


def read_card(path: str | os.PathLike) -> Card:
    """The card of a safetensors file, from its header alone."""
    text = safetensors_card(Path(path))
    if text is None:
        raise BadWeightsError(f"{path}: a safetensors file without a mobilessd card; name it to Detector to convert it")
    return Card.from_json(text, str(path))


def load_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, as float32 where they are floating-point."""
    from safetensors.torch import load_file

    safetensors_card(Path(path))  # says clearly what is wrong with a damaged file
    with guarded(path):
        return {name: t.float() if t.is_floating_point() else t for name, t in load_file(path).items()}


def load_checkpoint(path: str | os.PathLike) -> tuple[SSD, Card]:
    """The network that a file's card describes, with its weights, in eval mode. The file must fit its own card, which is
    compared with the tensors before the network takes any memory: a card may be anybody's."""
    from backbones.shapes import shapes_only
    from detection.ssd.network import build
    from detection.weights.card_check import spec_of

    card = read_card(path)
    with guarded(path):
        with shapes_only():
            ssd = build(spec_of(card, str(path)))
        tensors = load_tensors(path)
        report = compare(ssd, tensors)
        if not report.complete:
            raise BadWeightsError(f"{path}: does not fit its own card: {report}")
        return filled(ssd, tensors).eval(), card


def filled(network: Network, tensors: dict[str, torch.Tensor]) -> Network:
    """A network on PyTorch's "meta" device becomes one with these tensors, which fit it."""
    network = network.to_empty(device="cpu")
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.zero_()
    load_into(network, tensors)
    return network


def load_into(ssd: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> LoadReport:
    """Copies every tensor whose name and shape match; the report says what happened to the rest."""
    import torch

    report, state = compare(ssd, tensors), ssd.state_dict()
    with torch.no_grad():
        for name in report.loaded:
            state[name].copy_(tensors[name])
    return report


def compare(ssd: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> LoadReport:
    """What `load_into` would do, by names and shapes alone."""
    report, state = LoadReport(), ssd.state_dict()
    for name, target in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in tensors:
            report.missing.append(name)
        elif tensors[name].shape != target.shape:
            report.mismatched[name] = (tuple(tensors[name].shape), tuple(target.shape))
        else:
            report.loaded.append(name)
    report.unexpected = [name for name in tensors if name not in state and not name.endswith("num_batches_tracked")]
    return report


def update_card(path: str | os.PathLike, **changes: Any) -> Card:
    """Rewrites a checkpoint with some fields of its card changed; the weights stay as they are, to the bit."""
    from safetensors.numpy import load_file, save_file

    card = replace(read_card(path), **changes)
    tensors = load_file(path)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, {"format": "mobilessd", "card": card.to_json()})
    return card
