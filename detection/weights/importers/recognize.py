"""Which MobileNet a row of convolutions is, found by shapes alone: names and file names lie, shapes do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import nn

from backbones import available_taps, build_backbone
from backbones.blocks import ConvNormAct
from backbones.shapes import shapes_only

ALPHAS = (1.0, 0.75, 0.5, 0.35, 0.25, 1.3, 1.4, 1.25, 0.125)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Backbone:
    """A backbone that was recognised: name, options, taps of a detector, and how many convolutions belong to it."""

    name: str
    options: dict[str, Any]
    taps: tuple[str, ...]
    convolutions: int


def recognise(shapes: list[Shape], taps: Mapping[str, tuple[str, ...]]) -> Backbone | None:
    """The backbone whose convolutions [out, in / groups, kh, kw] the list starts with, or None.

    taps: for each backbone looked for, what is built of it (the last tap decides where the backbone ends).
    """
    for name, wanted in taps.items():
        for options in _variants(name):
            stem = available_taps(name, **options)[0].channels
            if not shapes or shapes[0][0] != stem:  # most widths are out of the question at the first layer
                continue
            own = _shapes(name, wanted, tuple(options.items()))
            if tuple(shapes[: len(own)]) == own:
                return Backbone(name, options, wanted, len(own))
    return None


def layers_of(module: nn.Module) -> list[ConvNormAct]:
    """The layers with a convolution, in the order in which they run (which is the order of construction)."""
    return [layer for layer in module.modules() if isinstance(layer, ConvNormAct)]


def _variants(name: str) -> Iterator[dict[str, Any]]:
    tops: tuple[dict[str, Any], ...] = ({"scale_top": False}, {"scale_top": True}) if name == "mobilenet_v2" else ({},)
    for alpha in ALPHAS:
        for depth in (16, 8):
            for top in tops:
                yield {"alpha": alpha, "min_depth": depth, **top}


@lru_cache(maxsize=64)
def _shapes(name: str, taps: tuple[str, ...], options: tuple[tuple[str, Any], ...]) -> tuple[Shape, ...]:
    with shapes_only():
        backbone = build_backbone(name, taps, **dict(options))
    return tuple(tuple(layer.conv.weight.shape) for layer in layers_of(backbone))
