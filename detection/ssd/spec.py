"""What a detector is, in plain numbers: dataclasses that become YAML, stand in every card, and rebuild the network.

Imports no torch, so that a card can be read where only a runtime is installed.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from detection.boxes.anchors import AnchorSpec, Size
from detection.boxes.geometry import BoxCoder
from detection.errors import MobileSSDError


@dataclass(frozen=True)
class InputSpec:
    """What the network eats: (x - mean) / std of uint8 RGB pixels, the image stretched to `size` (height, width)."""

    size: Size = (300, 300)
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    color: str = "rgb"  # "bgr": the channels are swapped inside the network; mean and std are in the network's order
    resize: str = "stretch"


@dataclass(frozen=True)
class ExtraSpec:
    """One of the layers that shrink the last map further.

    kind: "conv" (1x1 to `hidden`, then k x k), "separable" (1x1, k x k depthwise, 1x1), "inverted" (an inverted
    residual with a linear end, qfgaohao), "direct" (k x k alone, no 1x1 before it).
    padding: None for the network's rule, else pixels on each side. linear: no activation behind the last convolution of
    a "separable" layer (qfgaohao's mb1-ssd-lite).
    """

    channels: int
    hidden: int
    kind: str = "conv"
    kernel: int = 3
    stride: int = 2
    padding: int | None = None
    linear: bool = False


@dataclass(frozen=True)
class HeadSpec:
    """The prediction layers on each map: "conv" (one k x k convolution) or "separable" (k x k depthwise with norm and
    activation, then 1x1). `plain_last`: the last map has a plain 1x1 (qfgaohao, lufficc). `depthwise_bias` and
    `depthwise_norm` are for files in the wild. class_bias: start of the class biases (focal loss: -4.6)."""

    kind: str = "conv"
    kernel: int = 1
    plain_last: bool = False
    depthwise_bias: bool = False
    depthwise_norm: bool = True
    class_bias: float = 0.0


@dataclass(frozen=True)
class PyramidSpec:
    """The feature pyramid of TensorFlow's FPN-lite models: top-down maps of `channels`, `coarse` further maps by
    stride-2 convolutions, one predictor of `depth` layers shared by all maps, with batch norms of its own for each."""

    channels: int = 128
    coarse: int = 2
    depth: int = 4
    separable: bool = True


@dataclass(frozen=True)
class SSDSpec:
    """A whole detector. `num_classes` counts objects; the score columns are one more, background first.

    taps name feature maps of the backbone; activation, padding ("same" as TensorFlow, or "symmetric") and the norm's
    numbers (momentum in PyTorch's sense) hold for backbone, extras and heads; backbone_options are the backbone's own.
    scores: "sigmoid" or "softmax".
    """

    backbone: str = "mobilenet_v1"
    backbone_options: dict[str, Any] = field(default_factory=dict)
    taps: tuple[str, ...] = ()
    num_classes: int = 80
    input: InputSpec = InputSpec()
    extras: tuple[ExtraSpec, ...] = ()
    extras_norm: bool = True
    heads: HeadSpec = HeadSpec()
    pyramid: PyramidSpec | None = None
    anchors: AnchorSpec = AnchorSpec()
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    max_log: float | None = None
    scores: str = "sigmoid"
    padding: str = "same"
    activation: str = "relu6"
    norm_eps: float = 0.001
    norm_momentum: float = 0.03

    def __post_init__(self) -> None:
        height, width = self.input.size
        if min(height, width) < 1 or self.num_classes < 1:
            raise MobileSSDError(
                f"an input of {height} x {width} pixels and {self.num_classes} classes make no detector"
            )
        if self.scores not in ("sigmoid", "softmax"):
            raise MobileSSDError(f"scores: {self.scores!r} is neither sigmoid nor softmax")
        if self.padding not in ("same", "symmetric"):
            raise MobileSSDError(f"padding: {self.padding!r} is neither same nor symmetric")

    @property
    def coder(self) -> BoxCoder:
        return BoxCoder(tuple(self.variances), self.max_log)  # type: ignore[arg-type]

    def with_classes(self, number: int) -> SSDSpec:
        return replace(self, num_classes=number)

    def with_input_size(self, size: int | Size, *, keep_pixels: bool = False) -> SSDSpec:
        """keep_pixels: the anchors stay as many pixels large as they are now; otherwise the same share of the input."""
        size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        base = self.input.size if keep_pixels and self.anchors.base is None else self.anchors.base
        anchors = replace(self.anchors, base=base)
        return replace(self, input=replace(self.input, size=size), anchors=anchors)

    def resized(self, size: int | Size) -> SSDSpec:
        """The network for another input size that starts from the weights it has: a smaller input keeps the anchors'
        pixels, because a network knows sizes in pixels, and else all its boxes would be too small.

        A larger one does not: its objects may be larger than any anchor then, and training has to move the sizes anyway.
        """
        height, width = (size, size) if isinstance(size, int) else size
        (old_height, old_width), new = self.input.size, (int(height), int(width))
        smaller = new != (old_height, old_width) and height <= old_height and width <= old_width
        return self.with_input_size(new, keep_pixels=smaller)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON and YAML (tuples become lists)."""
        return _plain(asdict(self))

    @staticmethod
    def from_dict(data: dict[str, Any]) -> SSDSpec:
        """The inverse of `to_dict`; an unknown key is refused with the nearest right one."""
        data = dict(data)
        parts = {"input": InputSpec, "heads": HeadSpec, "anchors": AnchorSpec, "pyramid": PyramidSpec}
        for key, kind in parts.items():
            if data.get(key) is not None and key in data:
                data[key] = _strict(kind, data[key], key)
        if "extras" in data:
            data["extras"] = tuple(_strict(ExtraSpec, extra, "extras") for extra in data["extras"])
        return _strict(SSDSpec, data, "spec")


def _strict(kind: type, data: Any, where: str) -> Any:
    if isinstance(data, kind):
        return data
    if not isinstance(data, dict):
        raise MobileSSDError(f"{where}: expected keys and values, found {data!r}")
    known = {f.name for f in fields(kind)}
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise MobileSSDError(f"{where}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return kind(**frozen)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
