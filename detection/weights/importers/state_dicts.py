"""PyTorch state dicts of others: read without running anything in them, and copied into networks of ours by name.

A `.pth` file is a pickle, which can run code when it is opened. It is read with `weights_only`, which builds tensors
and plain containers and refuses the rest; a file that holds more is refused and nothing of it runs.
"""

from __future__ import annotations

import argparse
import os
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backbones.blocks import ConvNormAct
from detection.errors import BadWeightsError
from detection.weights.card_files import HEAD, is_pickle
from detection.weights.checkpoint import load_tensors
from detection.weights.formats import SAFETENSORS, recognise
from detection.weights.importers.fill import fill_trivial_norm

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")  # where training scripts put the state dict
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


class Pair(NamedTuple):
    """A layer of ours and where a file keeps it: `norm` is None where it has none."""

    ours: str
    conv: str
    norm: str | None = None


def read_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a `.pth`, `.pt` or `.safetensors` file by name, floating-point ones as float32.

    A training checkpoint is opened to its model; "module." of DataParallel is dropped. Raises BadWeightsError, one
    line, where the file holds code or objects (none of it runs), is cut short, or holds no tensors.
    """
    path = Path(path)
    if recognise(path) == SAFETENSORS:
        return load_tensors(path)
    try:
        with open(path, "rb") as file:
            start = file.read(HEAD)
    except OSError as error:
        raise BadWeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not is_pickle(start):
        raise BadWeightsError(f"{path}: no PyTorch file; fetch it again")
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
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise BadWeightsError(f"{path}: no state dict, or cut short ({reason}); fetch it again") from None
    return _tensors(content, path)


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise BadWeightsError(f"{path}: holds a {type(content).__name__}, not a state dict")
    tensors = {
        str(name).removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise BadWeightsError(f"{path}: holds no tensors, so it is no state dict")
    return tensors


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
        conv = layer.conv if isinstance(layer, ConvNormAct) else layer
        take(f"{pair.conv}.weight", conv.weight)  # type: ignore[arg-type]
        norm = layer.norm if isinstance(layer, ConvNormAct) else None
        if isinstance(norm, nn.BatchNorm2d) and pair.norm is not None and f"{pair.norm}.weight" not in state:
            bias = state.get(f"{pair.conv}.bias", torch.zeros(norm.num_features))
            left.discard(f"{pair.conv}.bias")
            fill_trivial_norm(norm, bias.numpy())
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
