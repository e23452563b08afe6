"""SSD300 and SSD512 on VGG-16 (arXiv 1512.02325), and the checks that all families share. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from detection.boxes.anchors import AnchorSpec, Size
from detection.boxes.geometry import TORCHVISION_MAX_LOG
from detection.errors import MobileSSDError
from detection.ssd.spec import ExtraSpec, HeadSpec, InputSpec, SSDSpec

RATIOS_300 = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def ssd300_vgg16(
    alpha: float = 1.0,
    input_size: int | Size | None = None,
    num_classes: int = 80,
    layout: str = "caffe",
    data: str = "coco",
) -> SSDSpec:
    """SSD300 on VGG-16, the SSD paper's network. layout "caffe" (Liu's), "torchvision", "mmdet" or "qfgaohao" (vgg16-ssd: a
    batch norm in the place of the L2 norm); `data`: Caffe's box sizes for "coco" or "voc", which "qfgaohao" always has."""
    size = size_of(input_size, 300)
    last = ExtraSpec(256, 128, padding=0, stride=1)
    extras = (ExtraSpec(512, 256), ExtraSpec(256, 128), last, last)
    sizes = {"coco": (21, 45, 99, 153, 207, 261, 315), "voc": (30, 60, 111, 162, 213, 264, 315)}
    steps_300 = (8, 16, 32, 64, 100, 300)
    anchors = _vgg_anchors(300, sizes, data, steps_300)
    if layout == "qfgaohao":
        edges = sizes["voc"]
        options = {"sizes": tuple(zip(edges, edges[1:])), "shrinkages": steps_300, "ratios": RATIOS_300}
        anchors = AnchorSpec("qfgaohao", options)
    if layout == "torchvision":
        steps = {"steps": steps_300} if size == (300, 300) else {}
        scales = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
        anchors = AnchorSpec("torchvision", {"scales": scales, "ratios": RATIOS_300, **steps})
    return _vgg(alpha, size, num_classes, layout, ("caffe", "torchvision", "mmdet", "qfgaohao"), extras, anchors)


def ssd512_vgg16(
    alpha: float = 1.0,
    input_size: int | Size | None = None,
    num_classes: int = 80,
    layout: str = "caffe",
    data: str = "coco",
) -> SSDSpec:
    """SSD512 on VGG-16: seven maps, the last made by a 4x4 kernel. layout "caffe" or "mmdet"; `data` as in SSD300."""
    half = ExtraSpec(256, 128)
    extras = (ExtraSpec(512, 256), half, half, half, ExtraSpec(256, 128, kernel=4, stride=1, padding=1))
    sizes = {"coco": (20, 51, 133, 215, 296, 378, 460, 542), "voc": (35, 76, 153, 230, 307, 384, 460, 537)}
    anchors = _vgg_anchors(512, sizes, data, (8, 16, 32, 64, 128, 256, 512))
    return _vgg(alpha, size_of(input_size, 512), num_classes, layout, ("caffe", "mmdet"), extras, anchors)


def _vgg(
    alpha: float,
    size: Size,
    num_classes: int,
    layout: str,
    layouts: tuple[str, ...],
    extras: tuple[ExtraSpec, ...],
    anchors: AnchorSpec,
) -> SSDSpec:
    known("layout", layout, layouts)
    check_alpha(alpha)
    theirs = layout == "qfgaohao"
    inputs = {
        "caffe": InputSpec(size, (104.0, 117.0, 123.0), (1.0,) * 3, "bgr"),
        "torchvision": InputSpec(size, (0.48235 * 255, 0.45882 * 255, 0.40784 * 255), (1.0,) * 3),
        "mmdet": InputSpec(size, IMAGENET["mean"], (1.0,) * 3),
        "qfgaohao": InputSpec(size, (123.0, 117.0, 104.0), (1.0,) * 3),
    }
    scaled = tuple(
        replace(e, channels=max(int(e.channels * alpha), 8), hidden=max(int(e.hidden * alpha), 8)) for e in extras
    )
    spec = SSDSpec(
        backbone="vgg16",
        backbone_options={"alpha": alpha} | ({"tap_batch_norm": True} if theirs else {}),
        taps=("conv4_3", "fc7"),
        num_classes=num_classes,
        input=inputs[layout],
        extras=scaled,
        extras_norm=False,
        heads=HeadSpec("conv", 3),
        anchors=anchors,
        max_log=TORCHVISION_MAX_LOG if layout == "torchvision" else None,
        scores="softmax",
        padding="symmetric",
        activation="relu",
    )
    # of the one norm, which has the backbone's own
    return replace(spec, norm_eps=1e-5, norm_momentum=0.1) if theirs else spec


def _vgg_anchors(base: int, sizes: Mapping[str, tuple[int, ...]], data: str, steps: tuple[int, ...]) -> AnchorSpec:
    known("data", data, tuple(sizes))
    ratios = RATIOS_300 if base == 300 else ((2,), *[(2, 3)] * 4, (2,), (2,))
    edges = sizes[data]
    options = {"min_sizes": edges[:-1], "max_sizes": edges[1:], "ratios": ratios, "steps": steps, "base": base}
    return AnchorSpec("caffe", options)


def size_of(size: int | Size | None, usual: int) -> Size:
    """(height, width) from one side, from both, or from nothing."""
    size = usual if size is None else size
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def check_alpha(alpha: float) -> None:
    if not alpha > 0:
        raise MobileSSDError(f"the width multiplier alpha must be above 0, not {alpha:g}")


def known(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise MobileSSDError(f"unknown {what} {given!r} for this detector; known: {', '.join(known)}")
