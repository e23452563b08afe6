"""The detectors by name: one small function each, that says in explicit numbers what the network is. Imports no torch.

`layout` chooses whose network it is: "tensorflow" (the detection zoo), "torchvision", "mmdet", "qfgaohao"
(pytorch-ssd, jetson-inference) or "caffe". It sets anchors, padding, norms, activation, input normalisation, taps and
extras together, because weights trained under one of them are wrong under another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from detection.boxes.anchors import AnchorSpec, Size
from detection.boxes.geometry import TORCHVISION_MAX_LOG
from detection.errors import MobileSSDError, nearest
from detection.ssd.families_vgg import IMAGENET, check_alpha, known, size_of, ssd300_vgg16, ssd512_vgg16
from detection.ssd.family_anchors import anchors_of_layout, with_aspect_ratios
from detection.ssd.spec import ExtraSpec, HeadSpec, InputSpec, PyramidSpec, SSDSpec

MIN_DEPTH = 16  # the least channels of a layer in TF-OD's and torchvision's detectors, extras included
STRIDE_8 = {
    "mobilenet_v1": "conv5",
    "mobilenet_v2": "expand6",
    "mobilenet_v3_large": "expand7",
    "mobilenet_v3_small": "expand4",
    "mobilenet_v4_conv_small": "expand4",
    "mobilenet_v4_conv_medium": "expand3",
}
FINER = ((0.055, 1.0), (0.08, 1.0), (0.08, 2.0), (0.08, 0.5))  # 16 and 24 pixels at 300
USUAL_TAPS = {
    "mobilenet_v1": ("conv11", "conv13"),
    "mobilenet_v2": ("expand13", "top"),
    "mobilenet_v3_large": ("expand13", "top"),
    "mobilenet_v3_small": ("expand9", "top"),
    "mobilenet_v4_conv_small": ("expand10", "top"),
    "mobilenet_v4_conv_medium": ("expand11", "top"),
}

# What each framework has in common in all its MobileNet detectors: fields of SSDSpec, "input" those of InputSpec.
FRAMEWORKS: dict[str, dict[str, Any]] = {
    "tensorflow": {"padding": "same", "norm_momentum": 0.03, "scores": "sigmoid", "input": {}},
    "torchvision": {"padding": "symmetric", "scores": "softmax", "max_log": TORCHVISION_MAX_LOG, "input": {}},
    "mmdet": {"padding": "symmetric", "scores": "softmax", "input": IMAGENET},
    "qfgaohao": {
        "padding": "symmetric",
        "scores": "softmax",
        "norm_eps": 1e-5,
        "norm_momentum": 0.1,
        "input": {"mean": (127.0,) * 3, "std": (128.0,) * 3},
    },
    "caffe": {
        "padding": "symmetric",
        "scores": "softmax",
        "norm_eps": 1e-5,
        "norm_momentum": 0.1,
        "activation": "relu",
        "input": {"mean": (127.5,) * 3, "std": (1 / 0.007843,) * 3, "color": "bgr"},
    },
}


@dataclass(frozen=True)
class Options:
    """What every MobileNet detector can be asked for.

    alpha: the width multiplier.  input_size: pixels, one side or (height, width); None: the layout's own.
    num_classes: object classes.  min_depth: the least channels of a layer; None: the layout's own.  extras: "plain" or
    "separable".  stride8: a further tap, for small objects.  taps: the backbone's maps by name, in the place of the usual.
    anchor_base: the input size whose anchors, as many pixels large, are taken; None: they grow and shrink with the input.
    aspect_ratios: width by height of the anchors, for long or thin objects, as in (1, 2, 0.5, 4, 0.25); None: the
    layout's own. A square of an in-between size comes beside them. Of the layouts tensorflow and torchvision.
    """

    alpha: float = 1.0
    input_size: int | Size | None = None
    num_classes: int = 80
    min_depth: int | None = None
    layout: str = "tensorflow"
    extras: str | None = None
    stride8: bool = False
    taps: Sequence[str] | None = None
    anchor_base: int | Size | None = None
    aspect_ratios: Sequence[float] | None = None


def ssd_mobilenet_v1(head_kernel: int | None = None, **common: Any) -> SSDSpec:
    """SSD on MobileNet V1: 1x1 heads ("qfgaohao": 3x3), plain extras. The V1 paper's detector (Table 13), TF's
    ssd_mobilenet_v1_coco; "qfgaohao": mb1-ssd; "caffe": chuanqi305's MobileNet-SSD."""
    options = Options(**common)
    heads = HeadSpec("conv", head_kernel or (3 if options.layout == "qfgaohao" else 1))
    return _mobilenet(
        "mobilenet_v1", options, heads, "plain", ("tensorflow", "torchvision", "mmdet", "qfgaohao", "caffe")
    )


def ssd_mobilenet_v2(head_kernel: int = 3, **common: Any) -> SSDSpec:
    """SSD on MobileNet V2: 3x3 heads, separable extras (TF's ssd_mobilenet_v2_coco). TF's quantised and TF2 "320"
    models have head_kernel 1 and plain extras; the V2 paper's (Table 5) 3x3 heads and plain extras."""
    heads = HeadSpec("conv", head_kernel)
    return _mobilenet("mobilenet_v2", Options(**common), heads, "separable", ("tensorflow", "torchvision", "mmdet"))


def ssdlite_mobilenet_v1(**common: Any) -> SSDSpec:
    """SSDLite on MobileNet V1: separable heads and extras (V2 paper, Table 6); "qfgaohao": mb1-ssd-lite."""
    options = Options(**common)
    heads = _lite(options.layout, norm=False)
    return _mobilenet("mobilenet_v1", options, heads, "separable", ("tensorflow", "torchvision", "mmdet", "qfgaohao"))


def ssdlite_mobilenet_v2(**common: Any) -> SSDSpec:
    """SSDLite on MobileNet V2, that paper's detector; "mmdet" taps the 96-channel output; "qfgaohao": mb2-ssd-lite."""
    options = Options(**common)
    heads = _lite(options.layout, norm=True)
    return _mobilenet("mobilenet_v2", options, heads, "separable", ("tensorflow", "torchvision", "mmdet", "qfgaohao"))


def ssdlite_mobilenet_v3_large(reduced_tail: bool = True, **common: Any) -> SSDSpec:
    """SSDLite on MobileNet V3 large, 320 pixels; `reduced_tail` halves the last layers (V3 paper, section 6.3).
    "torchvision": ssdlite320_mobilenet_v3_large."""
    return _v3("mobilenet_v3_large", reduced_tail, common)


def ssdlite_mobilenet_v3_small(reduced_tail: bool = True, **common: Any) -> SSDSpec:
    """SSDLite on MobileNet V3 small, 320 pixels; `reduced_tail` as in the large one."""
    return _v3("mobilenet_v3_small", reduced_tail, common)


def ssdlite_mobilenet_v4_conv_small(**common: Any) -> SSDSpec:
    """SSDLite on MobileNet V4 conv small, 320 pixels, in the manner of those on V2 and V3: nobody has published one."""
    return _v4("mobilenet_v4_conv_small", common)


def ssdlite_mobilenet_v4_conv_medium(**common: Any) -> SSDSpec:
    """SSDLite on MobileNet V4 conv medium, as on the small one."""
    return _v4("mobilenet_v4_conv_medium", common)


def ssd_mobilenet_v2_fpnlite(
    alpha: float = 1.0,
    input_size: int | Size | None = None,
    num_classes: int = 80,
    min_depth: int | None = None,
    channels: int = 128,
) -> SSDSpec:
    """SSD MobileNet V2 FPN-lite of the TF2 zoo, 320 pixels: a pyramid of `channels` at strides 8 to 128, one separable
    predictor of four layers for all of them, anchors of RetinaNet's kind."""
    return replace(
        _common("tensorflow", size_of(input_size, 320), num_classes),
        backbone="mobilenet_v2",
        backbone_options=_backbone_options("mobilenet_v2", "tensorflow", alpha, min_depth),
        taps=("block5", "block12", "top"),
        pyramid=PyramidSpec(channels=channels, coarse=2, depth=4),
        heads=HeadSpec("separable", 3, class_bias=-4.6),
        anchors=AnchorSpec("multiscale", {"min_level": 3, "anchor_scale": 4.0, "scales_per_octave": 2}),
    )


FAMILIES: dict[str, Callable[..., SSDSpec]] = {
    build.__name__: build
    for build in (
        ssd_mobilenet_v1,
        ssd_mobilenet_v2,
        ssdlite_mobilenet_v1,
        ssdlite_mobilenet_v2,
        ssdlite_mobilenet_v3_large,
        ssdlite_mobilenet_v3_small,
        ssdlite_mobilenet_v4_conv_small,
        ssdlite_mobilenet_v4_conv_medium,
        ssd_mobilenet_v2_fpnlite,
        ssd300_vgg16,
        ssd512_vgg16,
    )
}


def with_finer_map(spec: SSDSpec) -> SSDSpec:
    """The network with one more map in front, at stride 8, for small objects (`FINER`); all else stays, so that weights of
    `spec` go on. Raises MobileSSDError, one line, for a network that has such a map or has no place for it."""
    tap, taps = STRIDE_8.get(spec.backbone), tuple(spec.taps or USUAL_TAPS.get(spec.backbone, ()))
    if tap is None or not taps or spec.pyramid is not None:
        raise MobileSSDError(
            f"stride8: there is none for this network; there is for {', '.join(STRIDE_8)} without a pyramid"
        )
    if tap in taps or "finer" in spec.anchors.options:
        raise MobileSSDError(f"stride8: the network reads the map of stride 8, {tap}, already")
    anchors = replace(spec.anchors, options=spec.anchors.options | {"finer": FINER})
    return replace(spec, taps=(tap, *taps), anchors=anchors)


def list_architectures() -> tuple[str, ...]:
    """The detectors that `architecture` builds by a bare name."""
    return tuple(FAMILIES)


def architecture(name: str, **options: Any) -> SSDSpec:
    """The network of a detector by its bare name. Options: those of `Options` above, and a few of single families.
    Beside `FAMILIES`, ssd_B and ssdlite_B are detectors on any backbone B of `backbones` (`on_backbone`).

    Raises MobileSSDError, one line with the nearest right words, for an unknown name or option, or a wrong value.
    """
    build = family_of(name)
    if build is None:
        near = nearest(name, FAMILIES, 3, 0.4) or list(FAMILIES)
        raise MobileSSDError(f"no model of the name {name!r}; nearest: {', '.join(near)}")
    known_options = options_of(build)
    for option in options:
        if option not in known_options:
            near = nearest(option, known_options)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise MobileSSDError(f"{name} has no option {option!r}{hint}; it has {', '.join(known_options)}")
    return build(**options)


def on_backbone(backbone: str, head: str, **common: Any) -> SSDSpec:
    """SSD ("conv") or SSDLite ("separable" heads) on any backbone, in TensorFlow's manner: the feature maps that the
    backbone names itself (`backbones.usual_taps`), and four separable extra layers."""
    options = Options(**common)
    if options.taps is None:
        from backbones import usual_taps

        options = replace(options, taps=usual_taps(backbone))
    return _mobilenet(backbone, options, HeadSpec(head, 3), "separable", ("tensorflow", "torchvision"))


def family_of(name: str) -> Callable[..., SSDSpec] | None:
    """What builds the detector `name`: one of `FAMILIES`, else ssd_B or ssdlite_B of a backbone; None: nothing does."""
    if name in FAMILIES:
        return FAMILIES[name]
    kind, _, backbone = name.partition("_")
    heads = {"ssd": "conv", "ssdlite": "separable"}
    if kind not in heads or find_spec("torch") is None:
        return None
    from backbones import list_backbones  # torch: only for a name that is in no table

    return partial(on_backbone, backbone, heads[kind]) if backbone in list_backbones() else None


def options_of(build: Callable[..., SSDSpec]) -> tuple[str, ...]:
    """The names of the options that a function of `FAMILIES` takes."""
    parameters = inspect.signature(build).parameters.values()
    own = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    return tuple(own + [f.name for f in fields(Options)] if len(own) < len(parameters) else own)


def _v3(backbone: str, reduced_tail: bool, common: dict[str, Any]) -> SSDSpec:
    spec = _lite_of_320(backbone, common, ("tensorflow", "torchvision", "mmdet"))
    return replace(spec, backbone_options=spec.backbone_options | {"reduced_tail": reduced_tail})


def _v4(backbone: str, common: dict[str, Any]) -> SSDSpec:
    return _lite_of_320(backbone, common, ("tensorflow", "torchvision"))


def _lite_of_320(backbone: str, common: dict[str, Any], layouts: tuple[str, ...]) -> SSDSpec:
    options = Options(**common)
    if options.input_size is None:
        options = replace(options, input_size=320)
    return _mobilenet(backbone, options, _lite(options.layout, norm=True), "separable", layouts)


def _mobilenet(
    backbone: str, options: Options, heads: HeadSpec, usual_extras: str, layouts: tuple[str, ...]
) -> SSDSpec:
    layout, extras = options.layout, options.extras or usual_extras
    known("layout", layout, layouts)
    known("kind of extras", extras, ("plain", "separable"))
    if options.stride8 and (layout not in ("tensorflow", "torchvision") or options.taps):
        raise MobileSSDError(
            "stride8 goes with the layouts tensorflow and torchvision (others have no anchors), and without taps"
        )
    taps: tuple[str, ...] = USUAL_TAPS.get(backbone, ())
    if layout == "mmdet" and backbone == "mobilenet_v2":
        taps = ("block12", "top")
    taps = tuple(options.taps or ((STRIDE_8[backbone], *taps) if options.stride8 else taps))
    mb1 = layout == "qfgaohao" and backbone == "mobilenet_v1"
    size = size_of(options.input_size, 320 if layout in ("torchvision", "mmdet") else 300)
    anchors = anchors_of_layout(layout, len(taps) + 4)
    if options.aspect_ratios is not None:
        anchors = with_aspect_ratios(anchors, options.aspect_ratios, len(taps) + 4)
    if options.anchor_base is not None:
        anchors = replace(anchors, base=size_of(options.anchor_base, 300))
    spec = _common(layout, size, options.num_classes)
    return replace(
        spec,
        backbone=backbone,
        backbone_options=_backbone_options(backbone, layout, options.alpha, options.min_depth),
        taps=taps,
        extras=_extras(layout, backbone, options.alpha, extras),
        extras_norm=not mb1,
        heads=heads,
        anchors=anchors,
        activation="relu" if mb1 else spec.activation,
    )


def _common(layout: str, size: Size, num_classes: int) -> SSDSpec:
    fields = dict(FRAMEWORKS[layout])
    return SSDSpec(num_classes=num_classes, input=InputSpec(size=size, **fields.pop("input")), **fields)


def _backbone_options(backbone: str, layout: str, alpha: float, min_depth: int | None) -> dict[str, Any]:
    check_alpha(alpha)
    depth = min_depth or {"tensorflow": MIN_DEPTH, "qfgaohao": 1}.get(layout, 8)
    options: dict[str, Any] = {"alpha": alpha, "min_depth": depth}
    if backbone == "mobilenet_v2":
        options["scale_top"] = layout == "tensorflow"
        if layout == "qfgaohao":
            options["round_to"] = 1
    if backbone.startswith("mobilenet_v3") and layout == "tensorflow":
        options["expand_by_ratio"] = True
    return options


def _extras(layout: str, backbone: str, alpha: float, kind: str) -> tuple[ExtraSpec, ...]:
    """Four layers behind the backbone, as deep as in TF-OD and torchvision: max(int(depth * alpha), 16), not rounded."""
    if layout == "qfgaohao" and backbone == "mobilenet_v2":
        pairs = ((512, 256), (256, 128), (256, 128), (64, 64))
        return tuple(ExtraSpec(depth, hidden, "inverted") for depth, hidden in pairs)
    depths = (512, 256, 256, 256 if layout == "qfgaohao" else 128)
    linear = layout == "qfgaohao" and kind == "separable"

    def scaled(depth: int) -> int:
        return depth if layout == "qfgaohao" else max(int(depth * alpha), MIN_DEPTH)

    name = "separable" if kind == "separable" else "conv"
    return tuple(ExtraSpec(scaled(depth), scaled(depth // 2), name, linear=linear) for depth in depths)


def _lite(layout: str, norm: bool) -> HeadSpec:
    """Separable heads. qfgaohao's depthwise part has a bias, on V1 no norm, and its last map a plain 1x1."""
    if layout == "qfgaohao":
        return HeadSpec("separable", 3, plain_last=True, depthwise_bias=True, depthwise_norm=norm)
    return HeadSpec("separable", 3)
