"""What a detector is, in plain numbers: dataclasses that become YAML, stand in every card, and rebuild the network.

No torch, so that a card can be read where only a runtime is installed. A card may be anybody's: the limits are far
above every network that is of use, and keep a forged one from asking for gigabytes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from msgspec import Meta

from detection.boxes.anchors import PIXELS, AnchorSpec, Size
from detection.boxes.geometry import BoxCoder
from detection.config import NotNegative, Share, build, plain
from detection.errors import MobileSSDError

Side = Annotated[int, Meta(ge=1, le=16384)]  # of an input, in pixels
Channels = Annotated[int, Meta(ge=1, le=8192)]
Kernel = Annotated[int, Meta(ge=1, le=31)]
Few = Annotated[int, Meta(ge=0, le=32)]
Scale = Annotated[float, Meta(ge=1e-6)]  # what something is divided by
LARGEST_ALPHA = 16
LARGEST_OPTION = 1e6  # of any number among the options of a backbone or of anchors


@dataclass(frozen=True)
class InputSpec:
    """What the network is given: (x - mean) / std of uint8 RGB pixels, the image stretched to `size` (height, width)."""

    size: tuple[Side, Side] = (300, 300)
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[Scale, Scale, Scale] = (127.5, 127.5, 127.5)
    color: Literal["rgb", "bgr"] = "rgb"  # "bgr": the network swaps the channels; mean and std are in its own order
    resize: Literal["stretch"] = "stretch"


@dataclass(frozen=True)
class ExtraSpec:
    """One of the layers that shrink the last map further.

    kind: "conv" (1x1 to `hidden`, then k x k), "separable" (1x1, k x k depthwise, 1x1), "inverted" (an inverted
    residual with a linear end, qfgaohao), "direct" (k x k alone, no 1x1 before it).
    padding: None for the network's rule, else pixels on each side. linear: no activation behind the last convolution of
    a "separable" layer (qfgaohao's mb1-ssd-lite).
    """

    channels: Channels
    hidden: Annotated[int, Meta(ge=0, le=8192)]
    kind: str = "conv"
    kernel: Kernel = 3
    stride: Kernel = 2
    padding: Few | None = None
    linear: bool = False


@dataclass(frozen=True)
class HeadSpec:
    """The prediction layers on each map: "conv" (one k x k convolution) or "separable" (k x k depthwise with norm and
    activation, then 1x1). `plain_last`: the last map has a plain 1x1 (qfgaohao, lufficc). `depthwise_bias` and
    `depthwise_norm` are for files in the wild. class_bias: start of the class biases (focal loss: -4.6)."""

    kind: str = "conv"
    kernel: Kernel = 1
    plain_last: bool = False
    depthwise_bias: bool = False
    depthwise_norm: bool = True
    class_bias: float = 0.0


@dataclass(frozen=True)
class PyramidSpec:
    """The feature pyramid of TensorFlow's FPN-lite models: top-down maps of `channels`, `coarse` further maps by
    stride-2 convolutions, one predictor of `depth` layers shared by all maps, with batch norms of its own for each."""

    channels: Channels = 128
    coarse: Few = 2
    depth: Few = 4
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
    num_classes: Annotated[int, Meta(ge=1, le=100_000)] = 80
    input: InputSpec = InputSpec()
    extras: tuple[ExtraSpec, ...] = ()
    extras_norm: bool = True
    heads: HeadSpec = HeadSpec()
    pyramid: PyramidSpec | None = None
    anchors: AnchorSpec = AnchorSpec()
    variances: tuple[Scale, Scale, Scale, Scale] = (0.1, 0.1, 0.2, 0.2)
    max_log: float | None = None
    scores: str = "sigmoid"
    padding: str = "same"
    activation: str = "relu6"
    norm_eps: NotNegative = 0.001
    norm_momentum: Share = 0.03

    def __post_init__(self) -> None:
        height, width = self.input.size
        if min(height, width) < 1 or self.num_classes < 1:
            raise MobileSSDError(
                f"an input of {height} x {width} pixels and {self.num_classes} classes make no detector"
            )
        if height * width > PIXELS:
            raise MobileSSDError(f"input.size: {height} x {width} are more than {PIXELS:,} pixels")
        if len(self.extras) > 32 or len(self.taps) > 32:
            raise MobileSSDError("extras, taps: a network has at most 32 of each")
        _check_options("backbone_options", self.backbone_options)
        _check_options("anchors.options", self.anchors.options)
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
        """keep_pixels: the anchors stay as many pixels large as they are now, and lie where the network looks, as weights
        that were trained at the size of now need it; otherwise they are the same share of the input, evenly laid, as a
        network is trained anew. Back at the size of the training the anchors are those of the training again."""
        size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        old, anchors = self.input.size, self.anchors
        if keep_pixels and size != old:
            base, centred = anchors.base or old, anchors.centred_at or old
            home = size == centred  # where the weights were trained
            anchors = replace(
                anchors, base=None if home and size == base else base, centred_at=None if home else centred
            )
        return replace(self, input=replace(self.input, size=size), anchors=anchors)

    def resized(self, size: int | Size) -> SSDSpec:
        """The network for another input size that starts from the weights it has: the anchors keep their pixels, because
        a network knows sizes in pixels, and their centres follow the network. At its own size it is itself."""
        return self.with_input_size(size, keep_pixels=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON and YAML (tuples become lists)."""
        return plain(asdict(self))

    @staticmethod
    def from_dict(data: dict[str, Any]) -> SSDSpec:
        """The inverse of `to_dict`. Raises MobileSSDError, one line, for unknown keys and wrong or unreasonable values."""
        return build(SSDSpec, data, "spec")


def _check_options(name: str, value: Any) -> None:
    """Raises MobileSSDError for a number, somewhere in options, that no network has."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_options(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_options(name, item)
    elif isinstance(value, (int, float)):
        most = LARGEST_ALPHA if name.endswith(".alpha") else LARGEST_OPTION
        if not math.isfinite(value) or abs(value) > most:
            raise MobileSSDError(f"{name}: {value:g} is not at most {most:g}")
