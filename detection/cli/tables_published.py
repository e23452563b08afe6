"""What papers and published files print about their networks, in their own digits; a reason where ours has others.

Constants only; `detection.cli.tables_page` counts our networks and sets both side by side. "M" is a million, "G" a billion
(papers write B). A reason stands only where one is known; "not explained" is said where none is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Printed:
    """What one source prints about one network, in its own digits. `where`: the source, if its column has several.
    norms: whether the source counts the batch norms' parameters."""

    params: str = ""
    madds: str = ""
    score: str = ""
    where: str = ""
    norms: bool = True

    def __str__(self) -> str:
        figures = " / ".join(filter(None, (self.params, self.madds, self.score)))
        return f"{self.where}: {figures}" if self.where else figures


@dataclass(frozen=True)
class ClassifierRow:
    """A backbone as a classifier, `build_classifier(name, classes, **options)` at `size` pixels, and what is printed."""

    name: str
    size: int
    printed: tuple[Printed, ...]
    options: dict[str, Any] = field(default_factory=dict)
    classes: int = 1000
    note: str = ""


@dataclass(frozen=True)
class DetectorRow:
    """`spec_for(name, num_classes=columns - 1, **options)`; six: six anchors in every cell; parts: only these."""

    name: str
    columns: int = 91
    options: dict[str, Any] = field(default_factory=dict)
    printed: tuple[Printed, ...] = ()
    note: str = ""
    six: bool = False
    parts: tuple[str, ...] = ()


def _v1(alpha: float, size: int, paper: Printed, slim: Printed, note: str = "") -> ClassifierRow:
    return ClassifierRow("mobilenet_v1", size, (paper, slim), {"alpha": alpha}, note=note)


LOW = "slim's multiply-adds at 0.75 are 2.6 % below the exact count and the paper's"
HIGH = "slim's 4.24 M is slightly high"
V1 = (
    _v1(1.0, 224, Printed("4.2 M", "569 M", "70.6"), Printed("4.24 M", "569 M", "70.9 (69.7)"), HIGH),
    _v1(1.0, 192, Printed("4.2 M", "418 M", "69.1"), Printed("4.24 M", "418 M", "70.0 (69.0)"), HIGH),
    _v1(1.0, 160, Printed("4.2 M", "290 M", "67.2"), Printed("4.24 M", "291 M", "68.0 (67.3)"), HIGH),
    _v1(1.0, 128, Printed("4.2 M", "186 M", "64.4"), Printed("4.24 M", "186 M", "65.2 (64.0)"), HIGH),
    _v1(0.75, 224, Printed("2.6 M", "325 M", "68.4"), Printed("2.59 M", "317 M", "68.4 (67.9)"), LOW),
    _v1(0.75, 192, Printed(), Printed("2.59 M", "233 M", "67.2 (66.2)"), LOW),
    _v1(0.75, 160, Printed(), Printed("2.59 M", "162 M", "65.3 (63.9)"), LOW),
    _v1(0.75, 128, Printed(), Printed("2.59 M", "104 M", "62.1 (59.8)"), LOW),
    _v1(
        0.5, 224, Printed("1.3 M", "149 M", "63.7"), Printed("1.34 M", "150 M", "63.3 (62.2)"), "1.34 M: not explained"
    ),
    _v1(0.5, 192, Printed(), Printed("1.34 M", "110 M", "61.7 (60.4)"), "1.34 M: not explained"),
    _v1(0.5, 160, Printed("1.32 M", "76 M", "60.2"), Printed("1.34 M", "77 M", "59.1 (57.7)"), "1.34 M: not explained"),
    _v1(0.5, 128, Printed(), Printed("1.34 M", "49 M", "56.3 (54.9)"), "1.34 M: not explained"),
    _v1(0.25, 224, Printed("0.5 M", "41 M", "50.6"), Printed("0.47 M", "41 M", "49.8 (48.2)")),
    _v1(0.25, 192, Printed(), Printed("0.47 M", "34 M", "47.7 (45.8)"), "slim's 34 M should be 30 M"),
    _v1(0.25, 160, Printed(), Printed("0.47 M", "21 M", "45.5 (43.5)")),
    _v1(0.25, 128, Printed(), Printed("0.47 M", "14 M", "41.5 (39.9)")),
    ClassifierRow(
        "mobilenet_v1_fullconv",
        224,
        (Printed("29.3 M", "4866 M", "71.7"), Printed()),
        note="4866 M leaves out the last layer: 4,866,269,184",
    ),
    ClassifierRow("mobilenet_v1", 224, (Printed("2.9 M", "307 M", "65.3"), Printed()), {"shallow": True}),
)


def _v2(alpha: float, size: int, params: str, madds: str, top1: str, paper: Printed | None = None, note: str = ""):
    return ClassifierRow(
        "mobilenet_v2",
        size,
        (paper or Printed(), Printed(f"{params} M", f"{madds} M", top1, norms=False)),
        {"alpha": alpha},
        note=note,
    )


V2 = (
    _v2(1.4, 224, "6.06", "582", "75.0", Printed("6.9 M", "585 M", "74.7"), "the paper's figures cannot be reproduced"),
    _v2(1.3, 224, "5.34", "509", "74.4"),
    _v2(1.0, 224, "3.47", "300", "71.8", Printed("3.4 M", "300 M", "72.0")),
    _v2(1.0, 192, "3.47", "221", "70.7"),
    _v2(1.0, 160, "3.47", "154", "68.8"),
    _v2(1.0, 128, "3.47", "99", "65.3"),
    _v2(1.0, 96, "3.47", "56", "60.3"),
    _v2(0.75, 224, "2.61", "209", "69.8"),
    _v2(0.75, 192, "2.61", "153", "68.7"),
    _v2(0.75, 160, "2.61", "107", "66.4"),
    _v2(0.75, 128, "2.61", "69", "63.2"),
    _v2(0.75, 96, "2.61", "39", "58.8"),
    _v2(0.5, 224, "1.95", "97", "65.4"),
    _v2(0.5, 192, "1.95", "71", "63.9"),
    _v2(0.5, 160, "1.95", "50", "61.0"),
    _v2(0.5, 128, "1.95", "32", "57.7"),
    _v2(0.5, 96, "1.95", "18", "51.2"),
    _v2(0.35, 224, "1.66", "59", "60.3"),
    _v2(0.35, 192, "1.66", "43", "58.2"),
    _v2(0.35, 160, "1.66", "30", "55.7"),
    _v2(0.35, 128, "1.66", "20", "50.8"),
    _v2(0.35, 96, "1.66", "11", "45.5"),
)

SLIM_V3 = {"expand_by_ratio": True, "hidden": 1280}
SLIM_075 = {"alpha": 0.75} | SLIM_V3
RATIO = "slim has expansions by ratio and a hidden layer of 1280, whatever alpha"
SCALED = "torchvision's rule: all of it scaled"
V3 = (
    ClassifierRow("mobilenet_v2", 224, (Printed("3,504,872", "0.301 G", "71.878 / 72.154", "torchvision"),)),
    ClassifierRow("mobilenet_v3_large", 224, (Printed("5,483,032", "", "74.042 / 75.274", "torchvision"),)),
    ClassifierRow("mobilenet_v3_large", 224, (Printed("5.4 M", "217 M", "75.2", "slim"),)),
    ClassifierRow("mobilenet_v3_small", 224, (Printed("2,542,856", "", "67.668", "torchvision"),)),
    ClassifierRow("mobilenet_v3_small", 224, (Printed("2.5 M", "56 M", "67.4", "V3 paper"),)),
    ClassifierRow("mobilenet_v3_small", 224, (Printed("2.9 M", "66 M", "67.5", "slim"),), SLIM_V3, 1001,
               "2.9 M is that of slim's hidden layer of 1280; 66 M is of an older network"),
    ClassifierRow("mobilenet_v3_large", 224, (Printed("4.0 M", "155 M", "73.3", "slim"),), SLIM_075, 1001, RATIO),
    ClassifierRow("mobilenet_v3_small", 224, (Printed("2.4 M", "44 M", "65.4", "slim"),), SLIM_075, 1001, RATIO),
    ClassifierRow("mobilenet_v3_large", 224, (Printed(),), {"alpha": 0.75}, note=SCALED),
    ClassifierRow("mobilenet_v3_small", 224, (Printed(),), {"alpha": 0.75}, note=SCALED),
    ClassifierRow("vgg16", 224, (Printed("138,357,544", "", "", "torchvision"),)),
)  # fmt: skip

V4 = tuple(
    ClassifierRow(f"mobilenet_v4_conv_{kind}", size, (Printed(params, madds, "", "timm's code"),), options)
    for kind, size, params, madds, options in (
        ("small", 224, "3,774,024", "186,005,568", {}),
        ("small", 256, "3,774,024", "242,178,048", {}),
        ("medium", 224, "9,715,512", "827,649,984", {}),
        ("medium", 256, "9,715,512", "1,080,244,224", {}),
        ("small", 224, "2,238,952", "64,741,408", {"alpha": 0.5}),
        ("small", 224, "1,905,384", "47,723,040", {"alpha": 0.35}),
    )
)

LITE2, LARGE, SMALL = "ssdlite_mobilenet_v2", "ssdlite_mobilenet_v3_large", "ssdlite_mobilenet_v3_small"
S320 = {"input_size": 320}
NARROW = S320 | {"min_depth": 8}
PLAIN = S320 | {"extras": "plain"}
TORCHVISION = {"layout": "torchvision"}
TWICE = "multiplies and adds are counted separately there: twice ours"
FULL_TAIL = {"reduced_tail": False}
TF_HEADS = {"extras": "plain", "head_kernel": 1}
DETECTORS = (
    DetectorRow("ssd_mobilenet_v1", 91, {}, (Printed("6.8 M", "1.2 G", "19.3", "V1 paper, table 13"),)),
    DetectorRow("ssd_mobilenet_v1", 81),
    DetectorRow("ssd_mobilenet_v1", 91, S320),
    DetectorRow("ssd_mobilenet_v1", 91, {"head_kernel": 3}),
    DetectorRow("ssd_mobilenet_v1", 91, {"alpha": 0.75}),
    DetectorRow("ssd_mobilenet_v1", 91, {"alpha": 0.5}),
    DetectorRow("ssd_mobilenet_v1", 91, {"alpha": 0.25}),
    DetectorRow("ssdlite_mobilenet_v1", 81, S320, (Printed("5.1 M", "1.3 G", "22.2", "V2 paper, table 6"),)),
    DetectorRow("ssdlite_mobilenet_v1", 81, note="at 300 it would be 1.2 G: the paper's figure is that of 320"),
    DetectorRow("ssdlite_mobilenet_v1", 91),
    DetectorRow("ssd_mobilenet_v2", 81, PLAIN),
    DetectorRow("ssd_mobilenet_v2", 81, PLAIN, (Printed("14.8 M", "1.25 G", "", "V2 paper, table 5"),),
             parts=("extras", "heads")),
    DetectorRow("ssd_mobilenet_v2", 91, note="TensorFlow's ssd_mobilenet_v2_coco"),
    DetectorRow("ssd_mobilenet_v2", 91, TF_HEADS, note="TensorFlow's quantised one and TF2's \"320x320\", which is 300"),
    DetectorRow(LITE2, 81, S320, (Printed("4.3 M", "0.8 G", "22.1", "V2 paper, table 6"),)),
    DetectorRow(LITE2, 81, S320, (Printed("2.1 M", "0.35 G", "", "V2 paper, table 5"),), TWICE, parts=("extras", "heads")),
    DetectorRow(LITE2, 81),
    DetectorRow(LITE2, 91, note="the file ssdlite_mobilenet_v2.coco"),
    DetectorRow(LITE2, 91, S320),
    DetectorRow(LITE2, 91, six=True),
    DetectorRow(LITE2, 81, S320, six=True),
    DetectorRow(LITE2, 91, S320 | {"alpha": 0.75}),
    DetectorRow(LITE2, 91, S320 | {"alpha": 0.5}),
    DetectorRow(LITE2, 91, S320 | {"alpha": 0.35}, note="min_depth 16 inflates it; below, with 8"),
    DetectorRow(LITE2, 91, NARROW | {"alpha": 0.5}, (Printed("1.54 M", "0.27 G", "16.6", "V3 paper", False),)),
    DetectorRow(LITE2, 91, NARROW | {"alpha": 0.35}, (Printed("0.93 M", "0.16 G", "13.7", "V3 paper", False),)),
    DetectorRow(LITE2, 81, {"layout": "mmdet"}),
    DetectorRow(LARGE, 91, FULL_TAIL, (Printed("4.97 M", "0.62 G", "22.0", "V3 paper", False),), "0.62 G: not explained"),
    DetectorRow(LARGE, 91, {}, (Printed("3.22 M", "0.51 G", "22.0", "V3 paper", False),)),
    DetectorRow(LARGE, 91, {}, (Printed("3.22 M", "1.02 G", "", "TensorFlow's config", False),), TWICE),
    DetectorRow(SMALL, 91, FULL_TAIL, (Printed("2.49 M", "0.21 G", "16.0", "V3 paper", False),)),
    DetectorRow(SMALL, 91, {}, (Printed("1.77 M", "0.16 G", "16.1", "V3 paper", False),)),
    DetectorRow(LARGE, 91, TORCHVISION, (Printed("3,440,060", "0.583 G", "21.3", "torchvision"),)),
    DetectorRow(LARGE, 91, TORCHVISION | FULL_TAIL, note="with a pretrained backbone torchvision keeps the tail"),
    DetectorRow(LARGE, 21, TORCHVISION, (Printed("2,469,860", "", "", "torchvision's code"),)),
    DetectorRow("ssdlite_mobilenet_v4_conv_small", 91),
    DetectorRow("ssdlite_mobilenet_v4_conv_small", 81),
    DetectorRow("ssdlite_mobilenet_v4_conv_medium", 91),
    DetectorRow("ssdlite_mobilenet_v4_conv_medium", 81),
    DetectorRow("ssd_mobilenet_v2_fpnlite", 91, note="at 640: 51,150 anchors"),
    DetectorRow("ssd_mobilenet_v1", 21, {"layout": "qfgaohao"}, (Printed("9,468,996", "", "67.55 VOC", "mb1-ssd"),)),
    DetectorRow("ssdlite_mobilenet_v1", 21, {"layout": "qfgaohao"}, (Printed("4,312,388", "", "", "mb1-ssd-lite"),)),
    DetectorRow(LITE2, 21, {"layout": "qfgaohao"}, (Printed("3,388,228", "", "68.61 VOC", "mb2-ssd-lite"),)),
    DetectorRow("ssd_mobilenet_v1", 21, {"layout": "caffe"}, (Printed("", "", "72.7 VOC", "chuanqi305"),)),
    DetectorRow("ssd300_vgg16", 21),
    DetectorRow("ssd300_vgg16", 81, {}, (Printed("36.1 M", "35.2 G", "23.2", "V2 paper, table 6"),),
             "the paper prints SSD512's 36.1 M for both; 35.2 G: not explained"),
    DetectorRow("ssd300_vgg16", 91, {}, (Printed("33.1 M", "34.9 G", "21.1", "V1 paper, table 13"),),
             "33.1 M: not explained"),
    DetectorRow("ssd300_vgg16", 91, TORCHVISION, (Printed("35,641,826", "34.858 G", "25.1", "torchvision"),)),
    DetectorRow("ssd512_vgg16", 21),
    DetectorRow("ssd512_vgg16", 81, {}, (Printed("36.1 M", "99.5 G", "26.8", "V2 paper, table 6"),),
             "the last digit of 36.1 M and 99.5 G: not explained; with 91 columns it is 37.5 M, 100.0 G"),
    DetectorRow("ssd512_vgg16", 91, {"layout": "mmdet"}),
)  # fmt: skip

MINIVAL14 = "TensorFlow's own minival of COCO 2014 (8,059 images)"
VAL17 = "COCO val2017"
RESULTS = (  # the published file or paper, our name for its network, AP in percent, split
    ("ssd_mobilenet_v1_coco 2018_01_28", "ssd_mobilenet_v1", "21", MINIVAL14),
    ("ssd_mobilenet_v1_300 sync, focal", "ssd_mobilenet_v1", "20.5", MINIVAL14),
    ("ssd_mobilenet_v1_0.75_depth sync", "ssd_mobilenet_v1, alpha 0.75", "18", MINIVAL14),
    ("ssd_mobilenet_v1 quantised", "ssd_mobilenet_v1", "18", MINIVAL14),
    ("ssd_mobilenet_v1_0.75 quantised", "ssd_mobilenet_v1, alpha 0.75", "16", MINIVAL14),
    ("ssd_mobilenet_v2_coco", "ssd_mobilenet_v2", "22", MINIVAL14),
    ("ssdlite_mobilenet_v2_coco", "ssdlite_mobilenet_v2", "22", MINIVAL14),
    ("ssd_mobilenet_v2 quantised 300", "ssd_mobilenet_v2, plain extras, 1x1 heads", "22", MINIVAL14),
    ("ssd_mobilenet_v3 large, small", "ssdlite_mobilenet_v3_large, _small", "22.6, 15.4", "COCO 2014 minival"),
    ("TF2 SSD MobileNet v2 320x320", "ssd_mobilenet_v2, plain extras, 1x1 heads, at 300", "20.2", VAL17),
    ("TF2 SSD MobileNet v2 FPNLite 320, 640", "ssd_mobilenet_v2_fpnlite", "22.2, 28.2", VAL17),
    ("torchvision ssdlite320_mobilenet_v3_large", "ssdlite_mobilenet_v3_large, layout torchvision", "21.3", VAL17),
    ("torchvision ssd300_vgg16", "ssd300_vgg16, layout torchvision", "25.1", VAL17),
    ("mmdet ssdlite_mobilenetv2_scratch_600e", "ssdlite_mobilenet_v2, layout mmdet", "21.3", VAL17),
    ("mmdet ssd300, ssd512", "ssd300_vgg16, ssd512_vgg16, layout mmdet", "25.5, 29.5", VAL17),
    ("Liu's SSD300*, SSD512*", "ssd300_vgg16, ssd512_vgg16", "25.1, 28.8", "COCO test-dev2015"),
)
