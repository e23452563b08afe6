"""The tables of the two MobileNet papers, in their order and their digits; a reason where ours has others.

V1: arXiv 1704.04861, tables 1 to 14. V2: arXiv 1801.04381, tables 1 to 6. Constants only; `tables_papers_page` counts
our networks, and torchvision's where the paper compares with another, and sets both side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from detection.cli.tables_published import Printed


@dataclass(frozen=True)
class Classifier:
    """`build_classifier(name, classes, **options)` at `size` pixels; classes 0: the backbone without a last layer."""

    name: str
    size: int = 224
    classes: int = 1000
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Detector:
    """`spec_for(name, num_classes=columns - 1, **options)`; parts: only these."""

    name: str
    columns: int
    options: dict[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Torchvision:
    """`torchvision.models.<name>(num_classes=classes, **options)` at `size` pixels."""

    name: str
    size: int = 224
    classes: int = 1000
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TwoStage:
    """Faster R-CNN at `size` pixels and so many proposals: one of `detection.two_stage`, else torchvision's."""

    name: str
    size: int
    columns: int = 91
    proposals: int = 300


@dataclass(frozen=True)
class Row:
    """One row of a paper's table. network None: not built here; the note says what it is."""

    label: str
    printed: Printed
    network: Classifier | Detector | Torchvision | TwoStage | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a paper whose rows are whole networks. score: what its first figure measures."""

    number: int
    title: str
    score: str
    rows: tuple[Row, ...]


def v1(alpha: float = 1.0, size: int = 224, classes: int = 1000, **options: Any) -> Classifier:
    return Classifier("mobilenet_v1", size, classes, {"alpha": alpha} | options)


def printed(score: str, madds: str, params: str) -> Printed:
    """In the papers' order: accuracy, millions of multiply-adds, millions of parameters."""
    return Printed(f"{params} M" if params else "", f"{madds} M" if madds else "", score)


def big(score: str, madds: str, params: str) -> Printed:
    """The same with billions of multiply-adds."""
    return Printed(f"{params} M" if params else "", f"{madds} G" if madds else "", score)


CITED = "not built here: cited"
GOOGLENET = Torchvision("googlenet", options={"aux_logits": False, "init_weights": False})
INCEPTION_DOGS = Torchvision("inception_v3", 299, 120, {"aux_logits": False, "init_weights": False})
FULL = Row("1.0 MobileNet-224", printed("70.6", "569", "4.2"), v1())

# V1, table 1: each line's type and stride, filter (height, width, input channels, output channels; "dw": one a channel)
# and input (height, width, channels).
V1_BODY = (
    ("Conv / s2", "3 x 3 x 3 x 32", "224 x 224 x 3"),
    ("Conv dw / s1", "3 x 3 x 32 dw", "112 x 112 x 32"),
    ("Conv / s1", "1 x 1 x 32 x 64", "112 x 112 x 32"),
    ("Conv dw / s2", "3 x 3 x 64 dw", "112 x 112 x 64"),
    ("Conv / s1", "1 x 1 x 64 x 128", "56 x 56 x 64"),
    ("Conv dw / s1", "3 x 3 x 128 dw", "56 x 56 x 128"),
    ("Conv / s1", "1 x 1 x 128 x 128", "56 x 56 x 128"),
    ("Conv dw / s2", "3 x 3 x 128 dw", "56 x 56 x 128"),
    ("Conv / s1", "1 x 1 x 128 x 256", "28 x 28 x 128"),
    ("Conv dw / s1", "3 x 3 x 256 dw", "28 x 28 x 256"),
    ("Conv / s1", "1 x 1 x 256 x 256", "28 x 28 x 256"),
    ("Conv dw / s2", "3 x 3 x 256 dw", "28 x 28 x 256"),
    ("Conv / s1", "1 x 1 x 256 x 512", "14 x 14 x 256"),
    *(("Conv dw / s1", "3 x 3 x 512 dw", "14 x 14 x 512"), ("Conv / s1", "1 x 1 x 512 x 512", "14 x 14 x 512")) * 5,
    ("Conv dw / s2", "3 x 3 x 512 dw", "14 x 14 x 512"),
    ("Conv / s1", "1 x 1 x 512 x 1024", "7 x 7 x 512"),
    ("Conv dw / s2", "3 x 3 x 1024 dw", "7 x 7 x 1024"),
    ("Conv / s1", "1 x 1 x 1024 x 1024", "7 x 7 x 1024"),
    ("FC / s1", "1024 x 1000", "1 x 1 x 1024"),
)
V1_BODY_NOTES = {"3 x 3 x 1024 dw": "s2 is a misprint: the map stays 7 x 7, and with stride 2 it would be 534 M"}

# V1, table 2: kind of layer by our counter, the paper's name, its share of multiply-adds and of parameters, remark.
V1_SHARES = (
    ("pointwise", "Conv 1x1", "94.86", "74.59", ""),
    ("depthwise", "Conv DW 3x3", "3.06", "1.06", ""),
    ("convolution", "Conv 3x3", "1.19", "0.02", "1.19 is a misprint of 1.91"),
    ("linear", "Fully Connected", "0.18", "24.33", ""),
)

# V1, table 3: label, depthwise separable, alpha, rho, millions of multiply-adds, millions of parameters.
V1_LAYER = (
    ("Convolution", False, 1.0, 1.0, "462", "2.36"),
    ("Depthwise Separable Conv", True, 1.0, 1.0, "52.3", "0.27"),
    ("alpha = 0.75", True, 0.75, 1.0, "29.6", "0.15"),
    ("rho = 0.714", True, 0.75, 0.714, "15.1", "0.15"),
)

# V1, table 11: percent of the Im2GPS test images localized within a distance: Im2GPS, PlaNet, PlaNet MobileNet.
V1_PLANET = (
    ("Continent (2500 km)", "51.9", "77.6", "79.3"),
    ("Country (750 km)", "35.4", "64.0", "60.3"),
    ("Region (200 km)", "32.1", "51.1", "45.2"),
    ("City (25 km)", "21.9", "31.7", "31.7"),
    ("Street (1 km)", "2.5", "11.0", "11.4"),
)

RCNN_VGG, RCNN_V1 = (
    tuple(TwoStage(f"faster_rcnn_{name}", size) for size in (300, 600)) for name in ("vgg16", "mobilenet_v1")
)
WITHOUT_LAST = "4866 M leaves out the last layer: 4,866,269,184"
OF_1000 = "that of 1000 classes"
V1_TABLES = (
    Table(4, "Depthwise Separable vs Full Convolution MobileNet", "top-1", (
        Row("Conv MobileNet", printed("71.7", "4866", "29.3"), Classifier("mobilenet_v1_fullconv"), WITHOUT_LAST),
        Row("MobileNet", printed("70.6", "569", "4.2"), v1()),
    )),
    Table(5, "Narrow vs Shallow MobileNet", "top-1", (
        Row("0.75 MobileNet", printed("68.4", "325", "2.6"), v1(0.75)),
        Row("Shallow MobileNet", printed("65.3", "307", "2.9"), v1(shallow=True)),
    )),
    Table(6, "MobileNet Width Multiplier", "top-1", (
        FULL,
        Row("0.75 MobileNet-224", printed("68.4", "325", "2.6"), v1(0.75)),
        Row("0.5 MobileNet-224", printed("63.7", "149", "1.3"), v1(0.5)),
        Row("0.25 MobileNet-224", printed("50.6", "41", "0.5"), v1(0.25)),
    )),
    Table(7, "MobileNet Resolution", "top-1", (
        FULL,
        Row("1.0 MobileNet-192", printed("69.1", "418", "4.2"), v1(size=192)),
        Row("1.0 MobileNet-160", printed("67.2", "290", "4.2"), v1(size=160)),
        Row("1.0 MobileNet-128", printed("64.4", "186", "4.2"), v1(size=128)),
    )),
    Table(8, "MobileNet Comparison to Popular Models", "top-1", (
        FULL,
        Row("GoogleNet", printed("69.8", "1550", "6.8"), GOOGLENET,
            "torchvision's: 3x3 where the original has 5x5, batch norms, no auxiliary heads"),
        Row("VGG 16", printed("71.5", "15300", "138"), Classifier("vgg16"),
            "15300 M are the convolutions alone, 15,346,630,656 cut to three digits"),
    )),
    Table(9, "Smaller MobileNet Comparison to Popular Models", "top-1", (
        Row("0.50 MobileNet-160", printed("60.2", "76", "1.32"), v1(0.5, 160)),
        Row("Squeezenet", printed("57.5", "1700", "1.25"), Torchvision("squeezenet1_0", 227),
            "version 1.0 at its own 227 pixels; 1700 M counts multiplies and adds separately: twice ours"),
        Row("AlexNet", printed("57.2", "720", "60"), Torchvision("alexnet"),
            "torchvision's is the one-tower version of 2014; 720 M and 60 M are the original's"),
    )),
    Table(10, "MobileNet for Stanford Dogs (120 classes)", "top-1", (
        Row("Inception V3", printed("84", "5000", "23.2"), INCEPTION_DOGS,
            "5000 M: its paper's \"5 billion\"; 23.2 M: not explained (23.8 M with 1000 classes)"),
        Row("1.0 MobileNet-224", printed("83.3", "569", "3.3"), v1(classes=120), f"569 M is {OF_1000}"),
        Row("0.75 MobileNet-224", printed("81.9", "325", "1.9"), v1(0.75, classes=120)),
        Row("1.0 MobileNet-192", printed("81.9", "418", "3.3"), v1(size=192, classes=120), f"418 M is {OF_1000}"),
        Row("0.75 MobileNet-192", printed("80.5", "239", "1.9"), v1(0.75, 192, classes=120)),
    )),
    Table(12, "Face attribute classification (our backbone without a last layer)", "mean AP", (
        Row("1.0 MobileNet-224", printed("88.7", "568", "3.2"), v1(classes=0)),
        Row("0.5 MobileNet-224", printed("88.1", "149", "0.8"), v1(0.5, classes=0)),
        Row("0.25 MobileNet-224", printed("87.2", "45", "0.2"), v1(0.25, classes=0), "45 M: not explained"),
        Row("1.0 MobileNet-128", printed("88.1", "185", "3.2"), v1(size=128, classes=0)),
        Row("0.5 MobileNet-128", printed("87.7", "48", "0.8"), v1(0.5, 128, classes=0)),
        Row("0.25 MobileNet-128", printed("86.4", "15", "0.2"), v1(0.25, 128, classes=0), "15 M: not explained"),
        Row("Baseline", printed("86.9", "1600", "7.5"), None,
            f"{CITED}; the paper's text gives it 75 million parameters"),
    )),
    Table(13, "COCO object detection, 91 columns", "AP", (
        Row("SSD 300, deeplab-VGG", big("21.1", "34.9", "33.1"), Detector("ssd300_vgg16", 91), "33.1 M: not explained"),
        Row("SSD 300, Inception V2", big("22.0", "3.8", "13.7"), None, CITED),
        Row("SSD 300, MobileNet", big("19.3", "1.2", "6.8"), Detector("ssd_mobilenet_v1", 91)),
        Row("Faster-RCNN 300, VGG", big("22.9", "64.3", "138.5"), RCNN_VGG[0]),
        Row("Faster-RCNN 300, Inception V2", big("15.4", "118.2", "13.3"), None, CITED),
        Row("Faster-RCNN 300, MobileNet", big("16.4", "25.2", "6.1"), RCNN_V1[0]),
        Row("Faster-RCNN 600, VGG", big("25.7", "149.6", "138.5"), RCNN_VGG[1],
            "149.6 G: the last digit is not explained"),
        Row("Faster-RCNN 600, Inception V2", big("21.9", "129.6", "13.3"), None, CITED),
        Row("Faster-RCNN 600, Mobilenet", big("19.8", "30.5", "6.1"), RCNN_V1[1]),
    )),
    Table(14, "MobileNet Distilled from FaceNet (our backbone without a last layer)", "accuracy at 1e-4", (
        Row("FaceNet", printed("83", "1600", "7.5"), None, CITED),
        *(Row(f"{alpha:g} MobileNet-{size}" if alpha < 1 else f"1.0 MobileNet-{size}", printed(*figures),
              v1(alpha, size, classes=0), f"{why}the layers behind the backbone are not described")
          for alpha, size, figures, why in (
              (1.0, 160, ("79.4", "286", "4.9"), ""),
              (1.0, 128, ("78.3", "185", "5.5"), ""),
              (0.75, 128, ("75.2", "166", "3.4"), "166 M is ours at 160 pixels; "),
              (0.75, 128, ("72.5", "108", "3.8"), ""),
          )),
    )),
)  # fmt: skip

# V2, table 2: input (side, channels), operator, t, c, n, s.
V2_BODY = (
    ("224 x 3", "conv2d", "-", "32", "1", "2"),
    ("112 x 32", "bottleneck", "1", "16", "1", "1"),
    ("112 x 16", "bottleneck", "6", "24", "2", "2"),
    ("56 x 24", "bottleneck", "6", "32", "3", "2"),
    ("28 x 32", "bottleneck", "6", "64", "4", "2"),
    ("14 x 64", "bottleneck", "6", "96", "3", "1"),
    ("14 x 96", "bottleneck", "6", "160", "3", "2"),
    ("7 x 160", "bottleneck", "6", "320", "1", "1"),
    ("7 x 320", "conv2d 1x1", "-", "1280", "1", "1"),
)

# V2, table 3: side of the map, then channels / memory in KB of 16-bit values: MobileNet V1, V2, ShuffleNet (2x, g = 3).
V2_MEMORY = (
    (112, "64/1600", "16/400", "32/800"),
    (56, "128/800", "32/200", "48/300"),
    (28, "256/400", "64/100", "400/600"),
    (14, "512/200", "160/62", "800/310"),
    (7, "1024/199", "320/32", "1600/156"),
    (1, "1024/2", "1280/2", "1600/3"),
)
V2_MEMORY_NOTES = {
    112: "KB of 1,000 bytes, cut",
    56: "V2's 32 are the channels behind the next stride; 24 stay at this size",
    28: "V2's 64 likewise; 32 stay",
    14: "V2's 160 likewise; 96 stay",
    7: "V1's 199 is a misprint: 7 x 7 x 1024 values are 100 KB",
}

S320 = {"input_size": 320}
V2_TABLES = (
    Table(4, "Performance on ImageNet", "top-1, ms on one core of a Pixel 1", (
        Row("MobileNetV1", Printed("4.2 M", "575 M", "70.6, 113 ms"), v1(), "575 M: the V1 paper prints 569 M"),
        Row("ShuffleNet (1.5)", Printed("3.4 M", "292 M", "71.5"), None,
            f"{CITED}; ShuffleNet V2 1.5, its successor, is counted below"),
        Row("ShuffleNet (x2)", Printed("5.4 M", "524 M", "73.7"), None, CITED),
        Row("NasNet-A", Printed("5.3 M", "564 M", "74.0, 183 ms"), None, CITED),
        Row("MobileNetV2", Printed("3.4 M", "300 M", "72.0, 75 ms"), Classifier("mobilenet_v2")),
        Row("MobileNetV2 (1.4)", Printed("6.9 M", "585 M", "74.7, 143 ms"),
            Classifier("mobilenet_v2", options={"alpha": 1.4}), "the paper's figures cannot be reproduced"),
    )),
    Table(5, "SSD and SSDLite on MobileNetV2, 80 classes: extras and heads alone", "", (
        Row("SSD", Printed("14.8 M", "1.25 G"), Detector("ssd_mobilenet_v2", 81,
            S320 | {"extras": "plain"}, ("extras", "heads"))),
        Row("SSDLite", Printed("2.1 M", "0.35 G"),
            Detector("ssdlite_mobilenet_v2", 81, S320, ("extras", "heads")),
            "0.35 G counts multiplies and adds separately: twice ours"),
    )),
    Table(6, "MobileNetV2 + SSDLite and other realtime detectors on COCO", "AP, ms on one core of a Pixel 1", (
        Row("SSD300", Printed("36.1 M", "35.2 G", "23.2"), Detector("ssd300_vgg16", 81),
            "the paper prints SSD512's 36.1 M for both; 35.2 G: not explained"),
        Row("SSD512", Printed("36.1 M", "99.5 G", "26.8"), Detector("ssd512_vgg16", 81),
            "the last digit of 36.1 M and 99.5 G: not explained; with 91 columns it is 37.5 M, 100.0 G"),
        Row("YOLOv2", Printed("50.7 M", "17.5 G", "21.6"), None, CITED),
        Row("MNet V1 + SSDLite", Printed("5.1 M", "1.3 G", "22.2, 270 ms"), Detector("ssdlite_mobilenet_v1", 81, S320)),
        Row("MNet V2 + SSDLite", Printed("4.3 M", "0.8 G", "22.1, 200 ms"), Detector("ssdlite_mobilenet_v2", 81, S320)),
    )),
)  # fmt: skip

# Networks that the papers name and compare with, counted from torchvision's code. printed: that network's own record
# there, parameters, multiply-adds and top-1 on ImageNet.
COMPARED = (
    Row("GoogLeNet", Printed("6,624,904", "1.498 G", "69.778"), GOOGLENET),
    Row("VGG-16", Printed("138,357,544", "15.47 G", "71.592"), Torchvision("vgg16")),
    Row("SqueezeNet 1.0", Printed("1,248,424", "0.819 G", "58.092"), Torchvision("squeezenet1_0")),
    Row("SqueezeNet 1.1", Printed("1,235,496", "0.349 G", "58.178"), Torchvision("squeezenet1_1")),
    Row("AlexNet", Printed("61,100,840", "0.714 G", "56.522"), Torchvision("alexnet")),
    Row("Inception V3", Printed("27,161,264", "5.713 G", "77.294"),
        Torchvision("inception_v3", 299, options={"aux_logits": False, "init_weights": False}),
        "27,161,264 includes the auxiliary head, which only training runs"),
    Row("ShuffleNet V2 1.0", Printed("2,278,604", "0.145 G", "69.362"), Torchvision("shufflenet_v2_x1_0")),
    Row("ShuffleNet V2 1.5", Printed("3,503,624", "0.296 G", "72.996"), Torchvision("shufflenet_v2_x1_5")),
    Row("ShuffleNet V2 2.0", Printed("7,393,996", "0.583 G", "76.230"), Torchvision("shufflenet_v2_x2_0")),
    Row("MnasNet 1.0", Printed("4,383,312", "0.314 G", "73.456"), Torchvision("mnasnet1_0")),
    Row("Faster R-CNN MobileNet V3 large FPN, 800, 1000 proposals", Printed("19,386,354", "4.494 G", "AP 32.8"),
        TwoStage("fasterrcnn_mobilenet_v3_large_fpn", 800, proposals=1000),
        "the backbone's norms were frozen; 4.494 G is without a proposal: 4,493,592,256"),
    Row("Faster R-CNN MobileNet V3 large FPN, 320, 150 proposals", Printed("19,386,354", "0.719 G", "AP 22.8"),
        TwoStage("fasterrcnn_mobilenet_v3_large_320_fpn", 320, proposals=150),
        "the backbone's norms were frozen; 0.719 G is without a proposal: 718,998,400"),
    Row("Faster R-CNN VGG-16, 600, 300 proposals", Printed(), RCNN_VGG[1],
        "torchvision's FasterRCNN around its VGG-16: no record; in V1's table 13"),
    *(Row(f"Faster R-CNN, our MobileNet V2, {size}, 300 proposals", Printed(),
          TwoStage("faster_rcnn_mobilenet_v2", size), "cut behind block 12; no paper has it") for size in (300, 600)),
    Row("NasNet-A, ShuffleNet (V1)", Printed(), None, "not in torchvision: cited in V2's table 4"),
    Row("Inception V2, SSD and Faster R-CNN", Printed(), None, "not in torchvision: cited in V1's table 13"),
    Row("YOLOv2", Printed(), None, "not in torchvision: cited in V2's table 6"),
    Row("PlaNet, FaceNet", Printed(), None, "never published: cited in V1's tables 11 and 14"),
)  # fmt: skip
