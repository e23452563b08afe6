"""Boxes from JPEG files the plain way, with LiteRT: read, resize, invoke, post-process, one after the other.

    python litert_files.py MODEL.tflite IMAGE_OR_DIR OUT.json [--threads 2]

The post-processing is ours (score threshold 0.01, class-wise NMS at IoU 0.6, 100 boxes), from the file's raw tensors.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.programs.litert_loop import LiteRT
from detection.boxes.postprocess import PostSettings, postprocess


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model"), parser.add_argument("images"), parser.add_argument("out")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    settings = PostSettings(score=0.01, iou=0.6, max_detections=100)
    images = Path(args.images)
    paths = sorted(images.glob("*.jpg")) if images.is_dir() else [images]
    model = LiteRT(args.model, args.threads)
    anchors, rows, began = model.anchors(), [], time.perf_counter()
    for path in paths:
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        encodings, logits = model(rgb)
        names = tuple(map(str, range(1, logits.shape[1])))
        found = postprocess(encodings, logits, anchors, rgb.shape[:2], names, settings)
        rows.append([path.name, found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist()])
    seconds = time.perf_counter() - began
    Path(args.out).write_text(json.dumps({"images_per_second": len(rows) / seconds, "rows": rows}))


if __name__ == "__main__":
    main()
