"""torchvision's Faster R-CNN with a backbone of ours cut in two, as TensorFlow's Object Detection API cuts MobileNet V1.

What reaches stride 16 looks at the image once; the region proposal network reads its map. What lies behind it, of stride 2,
looks at each proposal, cut out as 14 x 14 cells. State dict: `backbone.0` the first layer, `backbone.N` block N;
`rpn.head`; `roi_heads.box_head.0` the first block behind the cut; `roi_heads.box_predictor`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import MultiScaleRoIAlign

from backbones import Cost, build_backbone, count
from detection.errors import BadWeightsError, MobileSSDError, nearest
from detection.ssd.spec import InputSpec
from detection.two_stage.names import CUTS, NAMES, PROPOSALS, VGG
from detection.weights.backbone import read_backbone
from detection.weights.checkpoint import load_into
from detection.weights.importers.backbone_weights import change_eps, renormalise

# TF-OD's grid anchors: scales 0.25 to 2 of 256 pixels, three shapes; twelve a cell
SIZES, RATIOS = (64, 128, 256, 512), (0.5, 1.0, 2.0)
NORM_EPS = 0.001


class BoxHead(nn.Sequential):
    """What a backbone has behind the cut: crops [P, C, 14, 14] -> [P, D], the mean over the last map."""

    def forward(self, crops: Tensor) -> Tensor:
        return super().forward(crops).mean((2, 3))


def faster_rcnn(
    name: str, columns: int, size: int | tuple[int, int] = 300, weights: str | os.PathLike | None = None, **options: Any
) -> FasterRCNN:
    """Faster R-CNN `name`, one of NAMES, with `columns` scores, background included. size: (height, width), or a side.

    Images go in as a list of float [3, H, W] in 0..1, and are stretched and normalised inside. weights: name or file of a
    classifier or detector whose backbone fills both stages; the rest starts fresh. options: the backbone's (`alpha`).
    faster_rcnn_vgg16 is torchvision's VGG-16, its linear layers the box head, as in arXiv 1506.01497; it takes neither.
    300 proposals, 64 of them an image for training, and non-maximum suppression at 0.6: TF-OD's figures.
    Raises MobileSSDError for an unknown name, BadWeightsError where the weights are of another backbone or width.
    """
    rules: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    height, width = (size, size) if isinstance(size, int) else size
    if name == VGG:
        if weights is not None or options:
            raise MobileSSDError(f"{name}: takes no weights and no width")
        vgg = models.vgg16()
        first, side, features = vgg.features[:-1], 7, 4096
        head: nn.Module = nn.Sequential(nn.Flatten(), *vgg.classifier[:-1])
        channels, rules = 512, {}  # torchvision's own normalisation
    elif name in CUTS:
        first, head, channels, features = _halves(name, weights, options)
        side = 14
    else:
        near = nearest(name, NAMES, 1, 0.5)
        raise MobileSSDError(f"{name}: no such detector; {f'nearest: {near[0]}' if near else ', '.join(NAMES)}")
    first.out_channels = channels
    return FasterRCNN(
        first,
        rpn_anchor_generator=AnchorGenerator((SIZES,), (RATIOS,)),
        rpn_post_nms_top_n_train=PROPOSALS,
        rpn_post_nms_top_n_test=PROPOSALS,
        box_roi_pool=MultiScaleRoIAlign(["0"], side, sampling_ratio=2),
        box_head=head,
        box_predictor=FastRCNNPredictor(features, columns),
        box_batch_size_per_image=64,
        box_score_thresh=0.01,
        box_nms_thresh=0.6,
        min_size=min(height, width),
        max_size=max(height, width),
        fixed_size=(height, width),
        size_divisible=1,
        **rules,
    )


def _halves(
    name: str, weights: str | os.PathLike | None, options: dict[str, Any]
) -> tuple[nn.Sequential, BoxHead, int, int]:
    """The two parts of a backbone, and the channels behind each."""
    cut = CUTS[name]
    try:
        backbone: Any = build_backbone(cut.backbone, taps=(cut.last,), norm_eps=NORM_EPS, **options)
        middle = build_backbone(cut.backbone, taps=(cut.middle,), norm_eps=NORM_EPS, **options).taps[0]
    except (TypeError, ValueError) as error:
        raise MobileSSDError(f"{name}: {error}") from None
    if weights is not None:
        published = read_backbone(weights)
        if published.backbone.name != cut.backbone:
            raise BadWeightsError(f"{weights}: holds a {published.backbone.name}, the detector has a {cut.backbone}")
        renormalise(published.backbone, published.input, InputSpec((1, 1)))
        change_eps(published.backbone, NORM_EPS)
        report = load_into(backbone, published.backbone.state_dict())
        if report.mismatched or report.missing:
            raise BadWeightsError(f"{weights}: a {cut.backbone} of another width than the detector's: {report}")
    stem = backbone.conv0 if cut.backbone == "mobilenet_v1" else backbone.stem
    top = [] if cut.backbone == "mobilenet_v1" else [backbone.top]
    first = nn.Sequential(stem, *backbone.blocks[: cut.blocks])
    return first, BoxHead(*backbone.blocks[cut.blocks :], *top), middle.channels, backbone.taps[0].channels


class _FirstStage(nn.Module):
    """The layers that see the image once."""

    def __init__(self, network: GeneralizedRCNN) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.rpn = nn.ModuleDict({"head": network.rpn.head})

    def forward(self, x: Tensor) -> None:
        maps = self.backbone(x)
        self.rpn["head"]([maps] if isinstance(maps, Tensor) else list(maps.values()))


class _SecondStage(nn.Module):
    """The layers that see each proposal, under the names that they have in the whole."""

    def __init__(self, network: GeneralizedRCNN) -> None:
        super().__init__()
        parts = {"box_head": network.roi_heads.box_head, "box_predictor": network.roi_heads.box_predictor}
        self.roi_heads = nn.ModuleDict(parts)

    def forward(self, crops: Tensor) -> None:
        self.roi_heads["box_predictor"](self.roi_heads["box_head"](crops))


def faster_rcnn_cost(
    network: GeneralizedRCNN, size: int | tuple[int, int], proposals: int = PROPOSALS, *, include_norms: bool = True
) -> Cost:
    """Parameters and multiply-adds of any Faster R-CNN of torchvision at `size` pixels: backbone and region proposal
    network once, box head and predictor `proposals` times. Cutting out, sorting and suppression count nothing."""
    first = count(_FirstStage(network), size, include_norms=include_norms)
    side = network.roi_heads.box_roi_pool.output_size[0]
    second = count(_SecondStage(network), side, network.backbone.out_channels, include_norms=include_norms)
    layers = (*first.layers, *(replace(layer, madds=layer.madds * proposals) for layer in second.layers))
    return Cost(first.params + second.params, first.madds + proposals * second.madds, layers)
