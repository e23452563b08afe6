"""Images to measure int8 ranges on, for the scripts of folders, which run where the package is not."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from detection.images.preprocess import stretch
from detection.images.sources import IMAGES

FEWEST = 10
MOST = 300


def stretched_images(folder: str | Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB [N, height, width, 3]: up to MOST images of a folder and those below it, spread over it, stretched to `size`
    (height, width). Broken ones are passed over; ends the program, one line, where fewer than FEWEST are left."""
    files = sorted(file for file in Path(folder).rglob("*") if file.suffix.lower() in IMAGES)
    places = np.unique(np.linspace(0, max(len(files) - 1, 0), MOST).astype(int))
    read = [cv2.imread(str(files[place])) for place in places] if files else []
    images = [stretch(image, size)[..., ::-1] for image in read if image is not None]
    if len(images) < FEWEST:
        sys.exit(f"{folder}: {len(images)} images are too few; give {FEWEST} or more like those to come, best {MOST}")
    return np.stack(images)
