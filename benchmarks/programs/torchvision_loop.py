"""The twelve COCO numbers the plain way, with torchvision: ssdlite320_mobilenet_v3_large and its own processing.

    python torchvision_loop.py ANNOTATIONS.json IMAGES_DIR OUT.json [--threads 2]

The weights are random, as nothing may be fetched: the time of the network does not depend on them, but every class has
candidates above torchvision's score threshold (0.001), so that its post-processing and pycocotools get their full 300 boxes an
image. One image at a time, as torchvision's reference evaluates; read by OpenCV, as in the other loops.
"""

import argparse
import contextlib
import io
import json
from pathlib import Path

import cv2
import torch

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations"), parser.add_argument("images"), parser.add_argument("out")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    with contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
        truth, results = COCO(args.annotations), []
        known = set(truth.getCatIds())
        for image in truth.loadImgs(sorted(truth.getImgIds())):
            rgb = cv2.cvtColor(cv2.imread(f"{args.images}/{image['file_name']}"), cv2.COLOR_BGR2RGB)
            found = model([torch.from_numpy(rgb).permute(2, 0, 1).float() / 255])[0]
            boxes = found["boxes"]
            boxes[:, 2:] -= boxes[:, :2]
            for score, label, box in zip(found["scores"].tolist(), found["labels"].tolist(), boxes.tolist()):
                if label in known:
                    results.append({"image_id": image["id"], "category_id": label, "bbox": box, "score": score})
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    said = dict(zip(NAMES, map(float, run.stats)), images=len(truth.imgs), boxes=len(results))
    Path(args.out).write_text(json.dumps(said))


if __name__ == "__main__":
    main()
