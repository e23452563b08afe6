"""Photographs of 12 megapixels: what the ways from a file to the network's input do to them, in COCO numbers.

    python benchmarks/large_photographs.py --annotations instances.json --images DIR [--count 100]

They are made: COCO images enlarged to a longer side of 4,000 pixels, with the noise of a small sensor (sigma 8), saved as
JPEG of quality 92. Each is scored with the bundled weights: stretched to the input at once, averaged first as detection
does (`images.preprocess.halved`), decoded at a fraction of its size as training does (`data.image_files.load_image`), and
as the original. Beside them stands how far training's pixels are from detection's at the network's input.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection import Detector
from detection.data.image_files import load_image
from detection.images.decode import read_image
from detection.images.preprocess import stretch

SIDE, NOISE = 4000, 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--count", type=int, default=100)
    args = parser.parse_args()
    truth = COCO(args.annotations)
    ids = sorted(truth.imgs)[: args.count]
    detector = Detector(score=0.01)
    size = detector.input_size
    rules: dict[str, Callable[[Path], np.ndarray]] = {
        "stretched at once": lambda file: cv2.resize(read_image(file), size[::-1], interpolation=cv2.INTER_LINEAR),
        "halved first (detection)": lambda file: stretch(read_image(file), size),
        "decoded at a fraction (training)": lambda file: stretch(load_image(file, size), size),
    }
    found: dict[str, list[dict]] = {name: [] for name in (*rules, "the original")}
    seconds, apart = dict.fromkeys(rules, 0.0), 0.0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photograph.jpg"
        for number, image_id in enumerate(ids):
            original = read_image(args.images / truth.imgs[image_id]["file_name"])
            found["the original"] += rows(detector, original, image_id, original.shape)
            enlarge(original, file, number)
            inputs = []
            for name, read in rules.items():
                begun = time.perf_counter()
                inputs.append(read(file))
                seconds[name] += time.perf_counter() - begun
                found[name] += rows(detector, inputs[-1], image_id, original.shape)
            apart += float(np.abs(inputs[1].astype(int) - inputs[2]).mean()) / len(ids)
    for name, results in found.items():
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.params.imgIds = ids
        run.evaluate()
        run.accumulate()
        run.summarize()
        each = f", {seconds[name] / len(ids) * 1000:.0f} ms from the file to the input" if name in seconds else ""
        print(json.dumps({"rule": name, "AP": round(run.stats[0], 4), "AP50": round(run.stats[1], 4)}) + each)
    print(f"training's pixels differ from detection's by {apart:.2f} of 255 on the mean")


def enlarge(image: np.ndarray, file: Path, seed: int) -> None:
    """Writes the photograph of `image`."""
    scale = SIDE / max(image.shape[:2])
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    large += np.random.default_rng(seed).normal(0, NOISE, large.shape).astype(np.float32)
    pixels = large.clip(0, 255).astype(np.uint8)
    cv2.imwrite(str(file), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])


def rows(detector: Detector, image: np.ndarray, image_id: int, original: tuple[int, ...]) -> list[dict]:
    """COCO results of an image, its boxes in the pixels of the original [H, W, 3]."""
    y, x = (whole / given for whole, given in zip(original[:2], image.shape[:2]))
    results = detector(image).to_coco(image_id)
    return [one | {"bbox": (np.array(one["bbox"]) * [x, y, x, y]).tolist()} for one in results]


if __name__ == "__main__":
    main()
