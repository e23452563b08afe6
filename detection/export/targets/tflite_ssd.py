"""TensorFlow Lite with detection post-processing in the graph: what MediaPipe, the Task Library, Frigate's detector `cpu` and
Coral's tools take (tensorflow/lite/kernels/detection_postprocess.cc; mediapipe's metadata_writers/object_detector.py).

Encodings and scores of a raw file go through TFLite_Detection_PostProcess; metadata and labels lie in the file.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from detection.boxes.detections import Detections
from detection.boxes.postprocess import in_pixels, suppress
from detection.errors import BadWeightsError
from detection.export.targets.base import IOU, Job, Written
from detection.export.targets.tflite_metadata import detector_metadata
from detection.export.tflite_graph import Graph
from detection.postprocessor import PostProcessor
from detection.runtimes.interfaces import INTERFACES, larger
from detection.weights.card_files import add_tflite_card
from detection.weights.formats import TFLITE

SCORE = 0.01
MOST = 100
OP = "TFLite_Detection_PostProcess"
LABELS = "labels.txt"
FARTHEST = 1e9  # of a centre, in anchors: no limit
PATH = "/config/mobilessd"


def write(job: Job) -> Written:
    """model.tflite and config.yml, Frigate's. uint8 RGB [1, h, w, 3] -> boxes [1, 100, 4] (y1, x1, y2, x2), classes [1,
    100], scores [1, 100], count [1]."""
    model = write_model(job, "tflite-ssd")
    int8 = job.source.card.precision == "int8"
    height, width = job.spec.input.size
    config = f"""detectors:
  mobilessd:
    type: cpu
    num_threads: 2
model:
  path: {PATH}/{model.name}
  labelmap_path: {PATH}/{LABELS}
  width: {width}
  height: {height}
  input_tensor: nhwc
  input_pixel_format: rgb
  input_dtype: int
  model_type: ssd
"""
    job.put("config.yml", config)
    coral = (
        "Coral: `edgetpu_compiler model.tflite`; what it cannot map runs on the processor."
        if int8
        else "Coral takes int8 alone: export an int8 .tflite (`mobilessd quantize`) for it."
    )
    return Written(
        model.name,
        (
            f"Input: uint8 RGB [1, {height}, {width}, 3]. Outputs: boxes [1, {MOST}, 4] y1, x1, y2, x2 in fractions, classes",
            f"from 0, scores, count. Post-processing is {OP}: NMS over all classes at IoU {IOU}.",
            "MediaPipe: ObjectDetectorOptions(base_options=BaseOptions(model_asset_path='model.tflite')); give it images of",
            f"{width} x {height}, as its own resize costs one box in ten, or take --target mediapipe.",
            "Android's Task Library: ObjectDetector.createFromFile.",
            "Frigate: this folder to /config/mobilessd, config.yml's lines into its own.",
            coral,
        ),
        max_detections=MOST,
        rules=FastNMS.of_file,
    )


def write_model(job: Job, interface: str) -> Path:
    """Writes model.tflite of a network, or of an exported file. interface: of `runtimes.interfaces`."""
    raw = job.source.path
    if job.ssd is not None:
        from detection.export.mobile import write_tflite

        raw = job.folder / f"raw{TFLITE.ending}"
        write_tflite(job.ssd, raw, job.source.card)
    model = job.folder / f"model{TFLITE.ending}"
    append_postprocess(job, raw, model, interface)
    if job.ssd is not None:
        raw.unlink()
    return model


def append_postprocess(job: Job, raw: Path, target: Path, interface: str) -> None:
    """Writes `target`: a raw file of ours with scores, boxes and NMS behind it, metadata, labels and card; with a resize in
    front of it, where its interface is one that takes larger images."""
    graph = Graph(raw)
    outputs = sorted(graph.outputs, key=graph.name)  # ...output_0..., ...output_1...
    count, columns = len(job.anchors), job.spec.num_classes + 1
    if [graph.shape(one) for one in outputs] != [[1, count, 4], [1, count, columns]]:
        raise BadWeightsError(f"{raw}: has no outputs encodings and logits; export it again")
    encodings, scores = outputs
    turned = graph.constant([1, 0, 3, 2], np.int32)  # ty, tx, th, tw
    encodings = graph.add("GATHER", [encodings, turned], [1, count, 4], axis=2)
    vx, vy, vw, vh = job.spec.coder.variances
    if (most := job.spec.coder.max_log) is not None:
        limit = graph.constant([[[FARTHEST, FARTHEST, most / vh, most / vw]]])
        encodings = graph.add("MINIMUM", [encodings, limit], [1, count, 4])
    kind, options = ("SOFTMAX", {"beta": 1.0}) if job.spec.scores == "softmax" else ("LOGISTIC", {})
    scores = graph.add(kind, [scores], [1, count, columns], **options)
    ends = [graph.constant([0, 0, 1], np.int32), graph.constant([1, count, columns - 1], np.int32)]
    scores = graph.add("SLICE", [scores, *ends], [1, count, columns - 1])
    made = [
        graph.tensor(OP, [1, MOST, 4]),
        graph.tensor(f"{OP}:1", [1, MOST]),
        graph.tensor(f"{OP}:2", [1, MOST]),
        graph.tensor(f"{OP}:3", [1]),
    ]
    rules = {
        "max_detections": MOST,
        "max_classes_per_detection": 1,
        "nms_score_threshold": SCORE,
        "nms_iou_threshold": IOU,
        "num_classes": columns - 1,
        "y_scale": 1 / vy,
        "x_scale": 1 / vx,
        "h_scale": 1 / vh,
        "w_scale": 1 / vw,
        # class by class is wrong with several threads (ai-edge-litert 2.3, TensorFlow's own files too)
        "use_regular_nms": False,
    }
    anchors = graph.constant(job.anchors[:, [1, 0, 3, 2]])
    graph.add_custom(OP, [encodings, scores, anchors], made, rules)
    if INTERFACES[interface].larger:
        graph.enter_larger(larger(job.spec.input.size))
    card = replace(job.card(interface), precision=job.source.card.precision)
    graph.finish(target, made, detector_metadata(card.name or "mobilessd", card.licence, LABELS))
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(LABELS, job.labels())
    add_tflite_card(target, card.to_json())


class FastNMS(PostProcessor):
    """The rules of TFLite_Detection_PostProcess: of each anchor the best class alone, and of two boxes that overlap the
    better one, whatever their classes are; boxes are cut to the image after that."""

    @classmethod
    def of_file(cls, usual: PostProcessor) -> FastNMS:
        """With the anchors and names of another one."""
        return cls(usual.anchors, usual.coder, usual.class_names, usual.category_ids, usual.settings)

    def __call__(self, encodings: np.ndarray, logits: np.ndarray, image_size: tuple[int, ...]) -> Detections:
        logits = logits.astype(np.float64)
        if self.settings.activation == "softmax":
            powers = np.exp(logits - logits.max(1, keepdims=True))
            activated = powers / powers.sum(1, keepdims=True)
        else:
            activated = 1 / (1 + np.exp(-logits))
        classes = activated[:, 1:].argmax(1)
        scores = activated[np.arange(len(classes)), 1 + classes].astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= SCORE]
        boxes = self.coder.decode(encodings[order], self.anchors[order])
        kept = suppress(boxes, np.zeros(len(order), np.int64), IOU, MOST)
        size = (int(image_size[0]), int(image_size[1]))
        inside = in_pixels(boxes[kept].clip(0, 1), size).astype(np.float32)
        order = order[kept]
        return Detections(inside, scores[order], classes[order], self.class_names, size, self.category_ids)
