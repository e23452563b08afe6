"""model.onnx -> model.rknn, with rknn-toolkit2: python convert.py [rk3588] [IMAGES]

IMAGES: a folder of images like those to come, 10 or more, best 300: int8, its ranges measured on them. Without it: float16.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from detection.export.targets.script_images import stretched_images

HERE = Path(__file__).resolve().parent


def built(platform, images=None):
    """The toolkit's RKNN with model.onnx built for a chip: int8 with a folder of images, else float16."""
    from rknn.api import RKNN

    rknn = RKNN()
    rknn.config(mean_values=[[127.5] * 3], std_values=[[127.5] * 3], target_platform=platform)
    dataset = None if images is None else dataset_of(images)
    if rknn.load_onnx(model=str(HERE / "model.onnx")) or rknn.build(
        do_quantization=dataset is not None, dataset=dataset
    ):
        sys.exit("rknn-toolkit2 does not take model.onnx")
    return rknn


def dataset_of(images):
    """Writes dataset.txt, which names an image a line: calibration/000.png and so on, as the network sees them."""
    size = json.loads((HERE / "input.json").read_text(encoding="utf-8"))["input"]["shape"][2:]
    (HERE / "calibration").mkdir(exist_ok=True)
    names = []
    for number, image in enumerate(stretched_images(images, tuple(size))):
        names.append(f"calibration/{number:03}.png")
        cv2.imwrite(str(HERE / names[-1]), np.ascontiguousarray(image[..., ::-1]))
    (HERE / "dataset.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return str(HERE / "dataset.txt")


def main():
    platform = sys.argv[1] if len(sys.argv) > 1 else "rk3588"
    rknn = built(platform, sys.argv[2] if len(sys.argv) > 2 else None)
    sys.exit(rknn.export_rknn(str(HERE / "model.rknn")))


if __name__ == "__main__":
    main()
