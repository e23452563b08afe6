"""Detects objects on a camera, in a video or in images, with what lies beside this file.

    python detect.py                       the first camera, in a window (q ends it)
    python detect.py 1 --no-window         the second camera, found objects in the terminal
    python detect.py street.jpg            an image; the drawn one is written beside it
    python detect.py film.mp4 --output drawn.mp4

Needs numpy and opencv-python, and onnxruntime (model.onnx), openvino (model.xml) or ai-edge-litert (model.tflite):

    pip install numpy opencv-python onnxruntime
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a missing camera is told in one line, below
import cv2

from detection.boxes.geometry import BoxCoder
from detection.boxes.postprocess import DEFAULT_MERGE, PostSettings, in_pixels, select
from detection.errors import MobileSSDError
from detection.images.preprocess import stretch
from detection.views import merge_boxes, of_one_view, parse

HERE = Path(__file__).resolve().parent


class Detector:
    """Image in, boxes out: `Detector()(bgr) -> [(name, score, (x1, y1, x2, y2)), ...]`, the best first."""

    def __init__(self, folder=HERE, score=None, iou=0.6, most=None, threads=None, merge=None, views="1"):
        self.card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        self.anchors = np.load(folder / "anchors.npy")  # [A, 4]: centre x, y, width, height, in fractions
        spec = self.card["spec"]
        self.size = tuple(spec["input"]["size"])
        self.coder = BoxCoder(tuple(spec["variances"]), spec.get("max_log"))
        self.plan = parse(views)
        if self.plan.sizes(self.size) != [self.size]:
            size = "{1}x{0}".format(*self.size)
            raise MobileSSDError(f"views {views}: this network has one input size, {size}; tiles and mirror go with it")
        rules = {} if self.plan.plain else self.plan.rules()
        if score is None:
            score = self.card["score_threshold"]
        self.settings = PostSettings(
            0.3 if score is None else score,
            iou,
            most or rules.get("max_detections", 100),
            activation=spec["scores"],
            merge=merge or rules.get("merge") or self.card.get("merge") or DEFAULT_MERGE,
        )
        self.network = open_network(folder, threads)

    def __call__(self, bgr):
        rgb, size = bgr[..., ::-1], bgr.shape[:2]
        if self.plan.plain:
            boxes, scores, classes = self.look(stretch(rgb, self.size), self.settings)
            boxes = in_pixels(boxes, size)
        else:
            views = self.plan.views(size, self.size)
            found = [self.look(view.pixels(rgb), of_one_view(self.settings)) for view in views]
            boxes, scores, classes = merge_boxes(views, found, self.settings, size)
        names = self.card["class_names"]
        return [(names[c], float(s), tuple(box)) for c, s, box in zip(classes, scores, boxes)]

    def look(self, seen, settings):
        """Boxes in fractions, scores and classes of what the network sees, uint8 RGB [h, w, 3]."""
        encodings, logits = self.network(np.ascontiguousarray(seen[None]))
        return select(encodings[0], logits[0], self.anchors, settings, self.coder)


def open_network(folder, threads=None):
    """A function: uint8 RGB [1, h, w, 3] -> encodings [1, A, 4], logits [1, A, classes + 1]."""
    if (folder / "model.onnx").exists():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda image: session.run(["encodings", "logits"], {name: image})
    if (folder / "model.tflite").exists():
        from ai_edge_litert.interpreter import Interpreter

        net = Interpreter(str(folder / "model.tflite"), num_threads=threads or os.cpu_count())
        net.allocate_tensors()
        given = net.get_input_details()[0]["index"]
        outputs = sorted(net.get_output_details(), key=lambda one: one["name"])  # encodings, logits

        def invoke(image):
            net.set_tensor(given, image)
            net.invoke()
            return [net.get_tensor(one["index"]) for one in outputs]

        return invoke
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "model.xml")
    model.reshape([1, *model.input().partial_shape.get_min_shape()[1:]])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    compiled = core.compile_model(model, "CPU", settings)

    def run(image):
        answer = compiled([image])
        return answer["encodings"], answer["logits"]

    return run


def draw(bgr, found):
    """Draws on the image itself."""
    for name, score, box in found:
        x1, y1, x2, y2 = (int(round(float(v))) for v in box)
        cv2.rectangle(bgr, (x1, y1), (x2, y2), (60, 220, 60), 2)
        cv2.putText(bgr, f"{name} {score:.2f}", (x1 + 3, y1 + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (60, 220, 60), 2)
    return bgr


def words(found):
    return ", ".join(f"{name} {score:.2f}" for name, score, _ in found) or "nothing"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "source", nargs="?", default="0", help="number of a camera, image, video or stream (default: 0)"
    )
    parser.add_argument("--score", type=float, help="lowest score to show")
    parser.add_argument("--views", default="1", help="how each image is looked at: 2x2 (tiles), mirror (default: 1)")
    parser.add_argument("--merge", choices=("nms", "vote", "soft"), help="what overlapping boxes become")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--output", help="file to write: an image, or a video (.mp4)")
    parser.add_argument("--no-window", action="store_true", help="say what is found instead of showing it")
    args = parser.parse_args()
    try:
        detector = Detector(score=args.score, threads=args.threads, merge=args.merge, views=args.views)
    except MobileSSDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    image = None if args.source.isdecimal() else cv2.imread(args.source)
    if image is not None:
        found = detector(image)
        output = args.output or str(Path(args.source).with_suffix("")) + ".detected.jpg"
        cv2.imwrite(output, draw(image, found))
        print(f"{words(found)}\ndrawn in {output}")
        return 0
    video = cv2.VideoCapture(int(args.source) if args.source.isdecimal() else args.source)
    if not video.isOpened():
        print(f"error: {args.source}: no such camera, and no file that OpenCV can read", file=sys.stderr)
        return 2
    video.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, where the driver can
    recorder, rate = None, 0.0
    while True:
        there, frame = video.read()
        if not there:
            break
        start = time.perf_counter()
        found = detector(frame)
        rate = 0.9 * rate + 0.1 / (time.perf_counter() - start) if rate else 1 / (time.perf_counter() - start)
        drawn = draw(frame, found)
        if args.output:
            if recorder is None:
                fps = video.get(cv2.CAP_PROP_FPS) or 25
                code = cv2.VideoWriter_fourcc(*"mp4v")
                recorder = cv2.VideoWriter(args.output, code, fps, (frame.shape[1], frame.shape[0]))
            recorder.write(drawn)
        if args.no_window or args.output:
            print(f"{words(found)}  ({rate:.0f} images/s)", flush=True)
        else:
            cv2.imshow("q ends", drawn)
            if cv2.waitKey(1) & 255 in (ord("q"), 27):
                break
    if recorder is not None:
        recorder.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
