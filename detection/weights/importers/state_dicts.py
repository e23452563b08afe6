"""PyTorch state dicts of others: read without running anything in them, and copied into networks of ours by name.

A `.pth` file is a pickle, which can run code when it is opened. It is read with `weights_only`, which builds tensors
and plain containers and refuses the rest; a file that holds more is refused and nothing of it runs.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backbones.blocks import ConvNormAct
from detection.errors import BadWeightsError
from detection.files import open_regular
from detection.weights.card_files import HEAD, is_pickle
from detection.weights.checkpoint import load_tensors
from detection.weights.formats import SAFETENSORS, recognise
from detection.weights.guard import guarded
from detection.weights.importers.fill import fill_trivial_norm
from detection.weights.importers.pickles import check_pickle, check_sizes

# What wraps a module without being one: torch.compile, FSDP, activation checkpointing, Lightning's Fabric.
_WRAPPED = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
_SECOND = re.compile(r"(?:^|_)(?:ema|swa)(?:_|$)|teacher|shadow|averag")  # a copy: taken where there is no other
_TRAINING = re.compile(r"optim|sched|scaler|callback|loops|rng|hyper")  # what is no network
DEEPEST = 6  # dictionaries in each other, and prefixes before each other
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


class Pair(NamedTuple):
    """A layer of ours and where a file keeps it: `norm` is None where it has none."""

    ours: str
    conv: str
    norm: str | None = None


def read_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a `.pth`, `.pt` or `.safetensors` file by name, floating-point ones as float32.

    A training checkpoint is opened to its model, or where it holds nothing else to its average (EMA); names are `plain_name`s.
    Raises BadWeightsError, one line, where the file holds code or objects (none of it runs), is cut short, or holds no
    tensors.
    """
    path = Path(path)
    if recognise(path) == SAFETENSORS:
        return {plain_name(name): value for name, value in load_tensors(path).items()}
    with guarded(path), open_regular(path) as file:
        start = file.read(HEAD)
    if not is_pickle(start):
        raise BadWeightsError(f"{path}: no PyTorch file; fetch it again")
    check_pickle(path)
    try:
        # argparse's Namespace is an empty shell that torchvision's training script leaves in its checkpoints.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of old pickles is no news to a person
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(word in str(error) for word in ("Unsupported", "GLOBAL", "not an allowed")):
            raise BadWeightsError(
                f"{path}: holds code or objects beside its tensors, so it was refused and nothing of it ran; "
                "where you trust it, save its state_dict alone"
            ) from None
        raise BadWeightsError(f"{path}: no PyTorch file, or cut short; fetch it again") from None
    except Exception as error:  # whatever torch meets in bytes that may be anybody's
        reason = str(error).split("\n")[0]
        raise BadWeightsError(f"{path}: no state dict, or cut short ({reason}); fetch it again") from None
    return _tensors(content, path)


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise BadWeightsError(f"{path}: holds a {type(content).__name__}, not a state dict")
    states = list(_states(content))
    if not states:
        raise BadWeightsError(f"{path}: holds no tensors, so it is no state dict")
    # The largest ones are networks, what has far fewer tensors counts or weighs something; averages come last.
    most = max(len(tensors) for _, tensors in states)
    _, network = min(
        (state for state in states if 2 * len(state[1]) >= most), key=lambda state: (state[0], -len(state[1]))
    )
    check_sizes(network, path)
    return {plain_name(name): value.float() if value.is_floating_point() else value for name, value in network.items()}


def _states(content: Mapping, second: bool = False, depth: int = 0) -> Iterator[tuple[bool, dict[str, Tensor]]]:
    """(whether it is a copy of another, its tensors) of a dictionary and of all inside it, but for those of optimisers."""
    if tensors := {str(name): value for name, value in content.items() if isinstance(value, Tensor)}:
        yield second, tensors
    for name, value in content.items():
        if isinstance(value, Mapping) and depth < DEEPEST and not _TRAINING.search(str(name).lower()):
            yield from _states(value, second or bool(_SECOND.search(str(name).lower())), depth + 1)


def plain_name(name: str) -> str:
    """A tensor's name without what torch.compile, DDP, FSDP and Fabric put around modules, in any order."""
    name = _WRAPPED.sub("", name)
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def views(state: Mapping[str, Tensor], depth: int = 0) -> Iterator[Mapping[str, Tensor]]:
    """A state dict, and then each of its parts with a prefix of its own taken off ("model." of a Lightning module, "ema.",
    "detector.net."), the largest first and copies of others last: whoever knows the names of a network finds it in one of
    them, however it was wrapped."""
    yield state
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        prefix, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(prefix, {})[rest] = value
    if depth < DEEPEST:
        for prefix, part in sorted(parts.items(), key=lambda one: (bool(_SECOND.search(one[0])), -len(one[1]))):
            if len(part) > 1 and not prefix.isdigit():
                yield from views(part, depth + 1)


def rows(state: Mapping[str, Tensor], name: str, file: str) -> int:
    """The first side of a tensor, by which a network is known. BadWeightsError, one line, where it is missing or but a number."""
    if name not in state or not state[name].ndim:
        raise BadWeightsError(f"{file}: {name} is {'a single number' if name in state else 'missing'}; fetch it again")
    return state[name].shape[0]


def copy_into(network: nn.Module, pairs: Iterable[Pair], state: Mapping[str, Tensor], file: str) -> bool:
    """Copies a state dict into a network, layer by layer as the pairs say; every tensor must be used, and fit.

    A layer of ours with a batch norm that the file has folded gets a trivial one; the answer is whether there was any.
    Raises BadWeightsError that names the first tensor that is missing, left over or of another shape.
    """
    left, folded = {name for name in state if not name.endswith("num_batches_tracked")}, False

    def take(name: str, target: Tensor | None) -> None:
        if name not in state:
            raise BadWeightsError(f"{file}: {name} is missing")
        if target is None or state[name].shape != target.shape:
            wanted = "nothing" if target is None else list(target.shape)
            raise BadWeightsError(f"{file}: {name} has shape {list(state[name].shape)} where the network has {wanted}")
        with torch.no_grad():
            target.copy_(state[name])
        left.discard(name)

    for pair in pairs:
        layer = network.get_submodule(pair.ours)
        if isinstance(layer, nn.BatchNorm2d):  # one that stands alone
            for part in NORM_PARTS:
                take(f"{pair.conv}.{part}", getattr(layer, part))
            continue
        conv = layer.conv if isinstance(layer, ConvNormAct) else layer
        take(f"{pair.conv}.weight", conv.weight)  # type: ignore[arg-type]
        norm = layer.norm if isinstance(layer, ConvNormAct) else None
        is_folded = f"{pair.norm}.weight" not in state and f"{pair.conv}.bias" in state
        if isinstance(norm, nn.BatchNorm2d) and pair.norm is not None and is_folded:
            left.discard(f"{pair.conv}.bias")
            fill_trivial_norm(norm, state[f"{pair.conv}.bias"].numpy())
            folded = True
            continue
        bias = getattr(conv, "bias", None)  # an L2 norm has none
        if bias is not None or f"{pair.conv}.bias" in state:
            take(f"{pair.conv}.bias", bias)
        if isinstance(norm, nn.BatchNorm2d):
            for part in NORM_PARTS:
                take(f"{pair.norm}.{part}", getattr(norm, part))
    if left:
        names = sorted(left)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise BadWeightsError(f"{file}: {', '.join(names[:3])}{more} have no place in the network that it looks like")
    return folded


def copy_out(network: nn.Module, pairs: Iterable[Pair]) -> dict[str, Tensor]:
    """The inverse of `copy_into`: what a network holds under the names that a file gives it, norms with a counter of 0."""
    state: dict[str, Tensor] = {}

    def give(name: str, source: Tensor | None) -> None:
        assert source is not None
        state[name] = source.detach().cpu().clone()

    def give_norm(name: str, norm: nn.BatchNorm2d) -> None:
        for part in NORM_PARTS:
            give(f"{name}.{part}", getattr(norm, part))
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)

    for pair in pairs:
        layer = network.get_submodule(pair.ours)
        if isinstance(layer, nn.BatchNorm2d):
            give_norm(pair.conv, layer)
            continue
        conv = layer.conv if isinstance(layer, ConvNormAct) else layer
        give(f"{pair.conv}.weight", conv.weight)  # type: ignore[arg-type]
        if getattr(conv, "bias", None) is not None:
            give(f"{pair.conv}.bias", conv.bias)  # type: ignore[arg-type]
        norm = layer.norm if isinstance(layer, ConvNormAct) else None
        if isinstance(norm, nn.BatchNorm2d):
            assert pair.norm is not None
            give_norm(pair.norm, norm)
    return state
