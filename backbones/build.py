"""Backbones by name."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

from .inverted import Plan
from .mobilenet_v1 import MobileNetV1, taps_of_mobilenet_v1
from .mobilenet_v2 import MobileNetV2, plan_of_mobilenet_v2
from .mobilenet_v3 import MobileNetV3, plan_of_mobilenet_v3
from .mobilenet_v4 import MobileNetV4, plan_of_mobilenet_v4
from .shapes import shapes_only
from .taps import Backbone, Tap, unknown
from .vgg import VGG16, taps_of_vgg16


def _taps_of(plan_of: Callable[..., Plan], *size: str) -> Callable[..., tuple[Tap, ...]]:
    """What lists the taps of a plan, first to last, with the options of the plan."""

    @wraps(plan_of)
    def list_taps(**options: Any) -> tuple[Tap, ...]:
        return plan_of(*size, **options).taps()

    return list_taps


# name -> (what builds the backbone, what lists its taps)
_BACKBONES: dict[str, tuple[Callable[..., Backbone], Callable[..., tuple[Tap, ...]]]] = {
    "mobilenet_v1": (MobileNetV1, taps_of_mobilenet_v1),
    "mobilenet_v1_fullconv": (partial(MobileNetV1, full_conv=True), taps_of_mobilenet_v1),
    "mobilenet_v2": (MobileNetV2, _taps_of(plan_of_mobilenet_v2)),
    "mobilenet_v3_large": (partial(MobileNetV3, "large"), _taps_of(plan_of_mobilenet_v3, "large")),
    "mobilenet_v3_small": (partial(MobileNetV3, "small"), _taps_of(plan_of_mobilenet_v3, "small")),
    "mobilenet_v4_conv_small": (partial(MobileNetV4, "small"), _taps_of(plan_of_mobilenet_v4, "small")),
    "mobilenet_v4_conv_medium": (partial(MobileNetV4, "medium"), _taps_of(plan_of_mobilenet_v4, "medium")),
    "vgg16": (VGG16, taps_of_vgg16),
}


def _options_of(function: Callable[..., Any]) -> set[str]:
    """Names of the keyword-only options of a backbone, less those that its name already decides."""
    decided = set(function.keywords) if isinstance(function, partial) else set()
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - decided


def list_backbones() -> tuple[str, ...]:
    """The names that `build_backbone` and `build_classifier` know."""
    return tuple(_BACKBONES)


def _look_up(name: str, options: dict[str, Any]) -> tuple[Callable[..., Backbone], Callable[..., tuple[Tap, ...]]]:
    if name not in _BACKBONES:
        raise unknown("backbone", name, list_backbones())
    known = sorted(_options_of(_BACKBONES[name][0]))
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    return _BACKBONES[name]


def build_backbone(name: str, taps: Sequence[str] | None = None, **options: Any) -> Backbone:
    """A backbone by name with fresh weights; `backbone(x)` gives the feature maps of `taps` in that order.

    `taps` left out are the backbone's usual detection taps; `available_taps` lists them all. The options are those of the
    backbone's class; all backbones know alpha, min_depth, padding ("same" | "symmetric"), norm_eps and norm_momentum.
    Raises ValueError, one line, for an unknown name, option or tap and for a width multiplier that is not above 0.
    """
    return _look_up(name, options)[0](taps, **options)


def usual_taps(name: str, **options: Any) -> tuple[str, ...]:
    """The taps that a backbone has where none are asked for: what a detector reads. Errors as `build_backbone`."""
    with shapes_only():
        return tuple(tap.name for tap in build_backbone(name, **options).taps)


def available_taps(name: str, **options: Any) -> tuple[Tap, ...]:
    """All taps of a backbone under these options, first to last, without building it. Errors as `build_backbone`."""
    list_taps = _look_up(name, options)[1]
    return list_taps(**{key: options[key] for key in options if key in _options_of(list_taps)})
