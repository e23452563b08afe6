"""timm's MobileNet classifiers (V1, V2, V3, V4 conv) -> backbones of ours, from a state dict under timm's names.

The tensors say which network it is and how wide. What they do not say, normalisation, padding and epsilon, stands in the
`config.json` that Hugging Face keeps beside each file; without one it is what timm has for most of its files of the kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from backbones.blocks import ConvNormAct, DepthwiseSeparable, FusedInverted, InvertedResidual
from detection.errors import BadWeightsError
from detection.ssd.spec import InputSpec
from detection.weights.guard import read_beside
from detection.weights.importers.backbone_weights import IMAGENET, BackboneWeights, first_fitting
from detection.weights.importers.state_dicts import Pair

State = Mapping[str, Tensor]
CONFIG = "config.json"
LARGEST_CONFIG = 1 << 20
HALF = InputSpec((224, 224))
_BEHIND = ("classifier.", "norm_head.")  # the pool
# name -> what its options may be beside the width
_VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "mobilenet_v1": ({},),
    "mobilenet_v2": ({"scale_top": False},),
    "mobilenet_v3_large": ({"expand_by_ratio": True},),
    "mobilenet_v3_small": ({"expand_by_ratio": True},),
    "mobilenet_v4_conv_small": ({},),
    "mobilenet_v4_conv_medium": ({},),
}


def backbone_of_state(state: State, file: str) -> BackboneWeights | None:
    """The backbone of a MobileNet of timm, filled; None for other names. Its classifier is left out. Raises BadWeightsError,
    one line, for timm's other networks, which have the same names."""
    if "conv_stem.weight" not in state or not any(name.startswith("blocks.0.0.") for name in state):
        return None
    name = _name_of(state)
    if name is None:
        raise BadWeightsError(
            f"{file}: a network of timm, but none of its MobileNet V1, V2, V3 and V4 conv small and medium"
        )
    behind = (*_BEHIND, "conv_head.") if name.startswith(("mobilenet_v3", "mobilenet_v4")) else _BEHIND
    own = {key: tensor for key, tensor in state.items() if not key.startswith(behind)}
    about = _config(Path(file))
    tensorflow = str(about.get("architecture", Path(file).name)).startswith("tf_")
    backbone, folded = first_fitting(
        name,
        [
            {"min_depth": 8, "norm_eps": 1e-3 if tensorflow else 1e-5, **variant}
            | {"padding": "same" if tensorflow else "symmetric"}
            for variant in _VARIANTS[name]
        ],
        own["conv_stem.weight"],
        lambda network: _pairs(network, own),
        own,
        file,
    )
    padding = "same" if tensorflow else "symmetric"
    return BackboneWeights(backbone, _input(about, name, tensorflow), padding, folded)


def _name_of(state: State) -> str | None:
    keys = set(state)
    if any(".attn." in key or ".layer_scale." in key for key in keys):
        return None
    if any(".pw_exp." in key for key in keys):
        return "mobilenet_v4_conv_" + ("medium" if "blocks.0.0.conv_exp.weight" in keys else "small")
    if "conv_head.bias" in keys:
        return "mobilenet_v3_" + ("small" if "blocks.0.0.se.conv_reduce.weight" in keys else "large")
    if "bn2.weight" in keys and not any(".se." in key for key in keys):
        return "mobilenet_v2"
    if "blocks.1.0.conv_dw.weight" in keys and "blocks.1.0.conv_pwl.weight" not in keys:
        return "mobilenet_v1"
    return None


def _config(file: Path) -> dict[str, Any]:
    """What Hugging Face's config.json beside a file says; nothing where there is none of timm's."""
    if not (file.parent / CONFIG).is_file():
        return {}
    try:
        found = json.loads(read_beside(file, CONFIG, LARGEST_CONFIG))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and "architecture" in found else {}


def _input(about: dict[str, Any], name: str, tensorflow: bool) -> InputSpec:
    settings = about.get("pretrained_cfg")
    settings = settings if isinstance(settings, dict) else {}
    try:
        mean, std = (tuple(255 * float(one) for one in settings[key]) for key in ("mean", "std"))
        if len(mean) == len(std) == 3 and min(std) > 1e-3:
            return InputSpec((224, 224), mean, std)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        pass
    return HALF if tensorflow or name == "mobilenet_v1" else IMAGENET


def _pairs(backbone: nn.Module, state: State) -> Iterator[Pair]:
    yield Pair("stem" if hasattr(backbone, "stem") else "conv0", "conv_stem", "bn1")
    places = sorted({tuple(map(int, key.split(".")[1:3])) for key in state if key.startswith("blocks.")})
    blocks = list(backbone.blocks)  # type: ignore[arg-type]
    top = getattr(backbone, "top", None)
    for i, (place, block) in enumerate(zip(places, blocks)):
        yield from _block(f"blocks.{i}", block, f"blocks.{place[0]}.{place[1]}", state)
    if top is not None and len(places) > len(blocks):  # V3 and V4: a stage of its own, before the pool
        last = places[-1]
        yield Pair("top", f"blocks.{last[0]}.{last[1]}.conv", f"blocks.{last[0]}.{last[1]}.bn1")
    elif top is not None:
        yield Pair("top", "conv_head", "bn2")


def _block(ours: str, block: nn.Module, theirs: str, state: State) -> Iterator[Pair]:
    if isinstance(block, ConvNormAct):
        yield Pair(ours, f"{theirs}.conv", f"{theirs}.bn1")
    elif isinstance(block, FusedInverted):
        yield Pair(f"{ours}.expand", f"{theirs}.conv_exp", f"{theirs}.bn1")
        yield Pair(f"{ours}.project", f"{theirs}.conv_pwl", f"{theirs}.bn2")
    elif isinstance(block, DepthwiseSeparable):
        yield Pair(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn1")
        yield Pair(f"{ours}.pointwise", f"{theirs}.conv_pw", f"{theirs}.bn2")
    elif isinstance(block, InvertedResidual) and f"{theirs}.pw_exp.conv.weight" in state:
        parts = (("start", "dw_start"), ("expand", "pw_exp"), ("depthwise", "dw_mid"), ("project", "pw_proj"))
        for part, name in parts:
            if getattr(block, part) is not None:
                yield Pair(f"{ours}.{part}", f"{theirs}.{name}.conv", f"{theirs}.{name}.bn")
    elif isinstance(block, InvertedResidual):
        at = 1
        if block.expand is not None:
            yield Pair(f"{ours}.expand", f"{theirs}.conv_pw", f"{theirs}.bn1")
            at = 2
        yield Pair(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn{at}")
        if block.gate is not None:
            yield Pair(f"{ours}.gate.fc1", f"{theirs}.se.conv_reduce")
            yield Pair(f"{ours}.gate.fc2", f"{theirs}.se.conv_expand")
        last = "conv_pwl" if block.expand is not None else "conv_pw"
        yield Pair(f"{ours}.project", f"{theirs}.{last}", f"{theirs}.bn{at + 1}")
