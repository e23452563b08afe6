"""The twelve COCO numbers the plain way, with LiteRT: read, resize, invoke, post-process, one by one; pycocotools.

    python litert_loop.py MODEL.tflite ANNOTATIONS.json IMAGES_DIR OUT.json [--threads 2]

The raw tensors are the inputs of the file's own TFLite_Detection_PostProcess op; the post-processing is ours
(score threshold 0.01, class-wise NMS at IoU 0.6, 100 boxes). The post-processing wants logits: a quantised score has 256
values, so they are looked up, which costs this loop next to nothing.
"""

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from detection.boxes.postprocess import PostSettings, postprocess

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


class LiteRT:
    """A TensorFlow Lite SSD: uint8 RGB of any size -> encodings [A, 4] (tx, ty, tw, th) and logits [A, 1 + C]."""

    def __init__(self, path, threads):
        from ai_edge_litert.interpreter import Interpreter

        self.net = Interpreter(path, num_threads=threads, experimental_preserve_all_tensors=True)
        self.net.allocate_tensors()
        self.input = self.net.get_input_details()[0]
        _, self.height, self.width, _ = map(int, self.input["shape"])
        details = {one["index"]: one for one in self.net.get_tensor_details()}
        post = next(op for op in self.net._get_ops_details() if "Detection" in op["op_name"])
        self.encodings, self.scores, self.boxes = post["inputs"]
        self.scale = {index: details[index]["quantization"] for index in post["inputs"]}
        self.table = None
        if self.scale[self.scores][0]:
            self.table = logit(self.real(np.arange(256), self.scores)).astype(np.float32)

    def real(self, values, index):
        scale, zero = self.scale[index]
        return (values.astype(np.float32) - zero) * scale if scale else values

    def anchors(self):
        cy, cx, h, w = self.real(self.net.get_tensor(self.boxes), self.boxes).T
        return np.stack([cx, cy, w, h], 1)

    def __call__(self, rgb):
        return self.raw(cv2.resize(rgb, (self.width, self.height), interpolation=cv2.INTER_LINEAR))

    def raw(self, small):
        """The same of uint8 RGB [height, width, 3] at the input's size."""
        x = small[None]
        if self.input["dtype"] == np.float32:
            x = x.astype(np.float32) / 127.5 - 1
        self.net.set_tensor(self.input["index"], x)
        self.net.invoke()
        encodings = self.real(self.net.get_tensor(self.encodings)[0], self.encodings)[:, [1, 0, 3, 2]]
        scores = self.net.get_tensor(self.scores)[0]
        if self.table is not None:
            return encodings, self.table[scores]
        return encodings, logit(scores) if 0 <= scores.min() and scores.max() <= 1 else scores


def logit(scores):
    scores = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.log(scores / (1 - scores))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model"), parser.add_argument("annotations"), parser.add_argument("images")
    parser.add_argument("out"), parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    settings = PostSettings(score=0.01, iou=0.6, max_detections=100)
    with contextlib.redirect_stdout(io.StringIO()):
        model, truth, results, anchors, names = LiteRT(args.model, args.threads), COCO(args.annotations), [], None, ()
        known = set(truth.getCatIds())
        for image in truth.loadImgs(sorted(truth.getImgIds())):
            rgb = cv2.cvtColor(cv2.imread(f"{args.images}/{image['file_name']}"), cv2.COLOR_BGR2RGB)
            encodings, logits = model(rgb)
            if anchors is None:
                anchors, names = model.anchors(), tuple(map(str, range(1, logits.shape[1])))
            found = postprocess(encodings, logits, anchors, rgb.shape[:2], names, settings)
            boxes = found.boxes.astype(float)
            boxes[:, 2:] -= boxes[:, :2]
            for score, index, box in zip(found.scores.tolist(), found.class_ids.tolist(), boxes.tolist()):
                if index + 1 in known:  # TensorFlow's columns are COCO's own ids
                    results.append({"image_id": image["id"], "category_id": index + 1, "bbox": box, "score": score})
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    Path(args.out).write_text(json.dumps(dict(zip(NAMES, map(float, run.stats)), images=len(truth.imgs))))


if __name__ == "__main__":
    main()
