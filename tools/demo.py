#!/usr/bin/env python3
"""Shows the whole thing in under a minute, without a network: the shipped weights on a real photograph, then live.

    python tools/demo.py [IMAGE...] [--weights NAME_OR_FILE] [--output runs/demo]

The photographs are those of photos/; the clip pans over the last of them, as a camera would.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

os.environ |= {
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
}  # they explain every codec that is not there
import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection import Detector
from detection.cli.main import main as mobilessd
from detection.errors import MobileSSDError
from detection.files import atomic_write
from detection.images.decode import read_image

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
WIDTH, HEIGHT, FRAMES = 640, 480, 90  # of the clip
SURE = 0.5  # lowest score that is shown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="your own, in the place of those of photos/")
    parser.add_argument("--weights", default=None, metavar="NAME_OR_FILE", help="others than the ones that ship")
    parser.add_argument("--output", default="runs/demo", metavar="DIR")
    args = parser.parse_args()
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    try:
        return demo([Path(image) for image in args.images] or sorted(PHOTOS.glob("*.jpg")), args.weights, output)
    except MobileSSDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def demo(images: list[Path], weights: str | None, output: Path) -> int:
    """Detects in the images, then live in a clip of the last. Returns the exit code."""
    print("loading the weights (the first time they are made ready for this processor)")
    detector = Detector(weights, score=SURE)
    print(detector)
    for path in images:
        image = read_image(path)
        found = detector(image)
        drawn = output / f"{path.stem}.jpg"
        with atomic_write(drawn) as temporary:
            cv2.imwrite(str(temporary), cv2.cvtColor(found.draw(image), cv2.COLOR_RGB2BGR))
        words = ", ".join(f"{name} {score:.2f}" for name, score in zip(found.names, found.scores))
        print(f"{path.name}: {words or 'nothing'} -> {drawn}")
    clip = panned(read_image(images[-1]), output / "clip.avi")
    print(f"\nlive, without a window, on a clip that pans over {images[-1].name}:")
    code = mobilessd(
        ["live", str(clip), "--headless", "--speed", "max", "--stats", "--score", str(SURE)]
        + ["--record", str(output / "live.mp4"), *(["--weights", weights] if weights else [])]
    )
    print(f"\nthe drawn images and the recording lie in {output}; with a camera: mobilessd live")
    return code


def panned(image: np.ndarray, path: Path) -> Path:
    """A video in which a window of 4:3 wanders over an image [h, w, 3] and zooms a little."""
    height, width = image.shape[:2]
    widest = min(width, height * WIDTH / HEIGHT)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise MobileSSDError(f"{path}: cannot be written; name another folder with --output")
    for turn in np.linspace(0, 2 * np.pi, FRAMES, endpoint=False):
        side = widest * (0.92 + 0.08 * np.cos(turn))
        wide, high = side, side * HEIGHT / WIDTH
        x = (width - wide) * (1 + np.sin(turn)) / 2
        y = (height - high) * (1 - np.cos(turn)) / 4
        part = image[int(y) : int(y + high), int(x) : int(x + wide)]
        writer.write(cv2.cvtColor(cv2.resize(part, (WIDTH, HEIGHT)), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


if __name__ == "__main__":
    sys.exit(main())
