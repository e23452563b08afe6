"""Detects objects in images, with what lies beside this file: python detect.py IMAGE...

Needs numpy and opencv-python; ncnn, too, where model.ncnn.param and model.ncnn.bin are there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from detection.boxes.geometry import BoxCoder
from detection.boxes.postprocess import PostSettings, in_pixels, select
from detection.images.preprocess import stretch

HERE = Path(__file__).resolve().parent


class Detector:
    """Image in, boxes out: `Detector()(bgr) -> [(name, score, (x1, y1, x2, y2)), ...]`, the best first."""

    def __init__(self, folder=HERE, score=0.4, iou=0.6, most=100):
        about = json.loads((folder / "input.json").read_text(encoding="utf-8"))
        self.names = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
        self.anchors = np.load(folder / "anchors.npy")
        self.size = tuple(about["input"]["shape"][2:])
        self.coder = BoxCoder(tuple(about["variances"]), about["max_log"])
        self.settings = PostSettings(score, iou, most, activation=about["scores"])
        self.network = ncnn_network(folder) if (folder / "model.ncnn.param").exists() else opencv_network(folder)

    def __call__(self, bgr):
        small = np.ascontiguousarray(stretch(bgr[..., ::-1], self.size))  # seen as RGB
        encodings, logits = self.network(small)
        boxes, scores, classes = select(encodings, logits, self.anchors, self.settings, self.coder)
        boxes = in_pixels(boxes, bgr.shape[:2])
        return [(self.names[c], float(s), tuple(map(float, box))) for c, s, box in zip(classes, scores, boxes)]


def opencv_network(folder):
    """A function: uint8 RGB [h, w, 3] -> encodings [A, 4], logits [A, 1 + classes]."""
    net = cv2.dnn.readNetFromONNX(str(folder / "model.onnx"))

    def call(image):
        height, width = image.shape[:2]
        net.setInput(cv2.dnn.blobFromImage(image, 1 / 127.5, (width, height), (127.5, 127.5, 127.5)))
        encodings, logits = net.forward(["encodings", "logits"])
        return encodings[0], logits[0]

    return call


def ncnn_network(folder):
    """The same, of ncnn's files."""
    import ncnn

    net = ncnn.Net()
    net.load_param(str(folder / "model.ncnn.param"))
    net.load_model(str(folder / "model.ncnn.bin"))

    def call(image):
        height, width = image.shape[:2]
        fed = ncnn.Mat.from_pixels(image, ncnn.Mat.PixelType.PIXEL_RGB, width, height)
        fed.substract_mean_normalize([127.5] * 3, [1 / 127.5] * 3)
        run = net.create_extractor()
        run.input("in0", fed)
        encodings, logits = (np.array(run.extract(name)[1]) for name in ("out0", "out1"))
        return encodings.reshape(-1, 4), logits.reshape(len(encodings.reshape(-1, 4)), -1)

    return call


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    detector = Detector()
    for name in sys.argv[1:]:
        image = cv2.imread(name)
        if image is None:
            sys.exit(f"{name}: no image that OpenCV can read")
        for found, score, box in detector(image):
            print(f"{name}: {found} {score:.2f} at {', '.join(f'{value:.0f}' for value in box)}")


if __name__ == "__main__":
    main()
