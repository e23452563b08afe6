"""Images, labels and YAML of every kind, mutated (`fuzz`)."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import cv2
import numpy as np
from data_sets import SIZE, voc_xml
from data_sets import coco as coco_file
from fuzz import Target
from fuzz_mutators import NUMBERS, VALUES, mutated, mutated_tree

from detection.data.check import check
from detection.data.image_files import load_image, read_header
from detection.data.open import open_data
from detection.errors import BadImageError
from detection.evaluate.results import read_results
from detection.evaluate.truth import ground_truth, open_evaluation
from detection.images.decode import read_image
from detection.images.video import Video
from detection.train.recipes import load_config

EXIF = (
    b"Exif\0\0MM\0*\0\0\0\x08\0\2"
    + struct.pack(">HHIHH", 274, 3, 1, 6, 0)
    + struct.pack(">HHIHH", 256, 3, 1, 9, 0)
    + b"\0" * 4
)
TOKENS = [str(value) for value in VALUES if not isinstance(value, (list, dict)) and str(value).isprintable()]


def image(ending: str, size: tuple[int, int] = (30, 40), channels: int = 3) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
        data = cv2.imencode(ending, pixels)[1].tobytes()
        if ending == ".jpg":
            data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(EXIF) + 2) + EXIF + data[2:]
        (folder / f"a{ending}").write_bytes(data)
        return folder / f"a{ending}"

    return write


def any_bytes(random: Random, path: Path) -> None:
    path.write_bytes(mutated(path.read_bytes(), random))


def to_pixels(path: Path) -> None:
    """In a folder that is detected in, in a data set that is checked, and in a training."""
    refused = None
    for read in (read_image, read_header, lambda path: load_image(path, (8, 8))):
        try:
            read(path)
        except BadImageError as error:
            refused = error
    if refused:
        raise refused


def video(folder: Path) -> Path:
    writer = cv2.VideoWriter(str(folder / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (40, 30))
    for level in range(3):
        writer.write(np.full((30, 40, 3), level, np.uint8))
    writer.release()
    return folder / "a.avi"


def to_frames(path: Path) -> None:
    with Video(path) as frames:
        for _ in zip(range(50), frames):
            pass


def coco(folder: Path) -> Path:
    boxes = [
        (1, 1, [2, 3, 20, 10]),
        (1, 2, [1, 1, 5, 5], {"iscrowd": 1, "area": 25.0}),
        (2, 1, [0, 0, 9, 9], {"score": 0.5}),
    ]
    outline = {"segmentation": {"size": [40, 60], "counts": [5, 7, 100, 3]}, "bbox": None}
    return coco_file(folder, [*boxes, (2, 2, None, outline)], 2)


def tree_in(random: Random, path: Path) -> None:
    """A JSON file's tree; one time in five its bytes."""
    if random.random() < 0.2:
        return any_bytes(random, path)
    tree = mutated_tree(json.loads(path.read_text()), random)
    path.write_text(json.dumps(tree), encoding="utf-8", errors="surrogatepass")


def to_data(path: Path) -> None:
    """As a training and an evaluation read it."""
    check(open_data(path), content=False).text()
    ground_truth(open_evaluation(path))


def voc(folder: Path) -> Path:
    for name in "ab":
        voc_xml(folder / "Annotations" / f"{name}.xml", [("cat", 2, 3, 20, 12, 0), ("dog", 1, 1, 9, 9, 1)])
        (folder / "JPEGImages").mkdir(exist_ok=True)
        image(".png", SIZE)(folder).rename(folder / "JPEGImages" / f"{name}.png")
    return folder


def in_xml(random: Random, path: Path) -> None:
    file = path / "Annotations" / "a.xml"
    in_text(random, file, r"(?<=>)[^<>]+(?=<)|<[^>]+>")


def in_text(random: Random, file: Path, words: str) -> None:
    """One to three words of a text replaced, doubled or left out; one time in four the bytes."""
    if random.random() < 0.25:
        return any_bytes(random, file)
    text = file.read_text()
    for _ in range(random.choice((1, 1, 2, 3))):
        spans = [found.span() for found in re.finditer(words, text)]
        if spans:
            start, end = random.choice(spans)
            new = random.choice((*TOKENS, str(random.choice(NUMBERS)), "", text[start:end] * random.choice((2, 300))))
            text = text[:start] + new + text[end:]
    file.write_text(text, encoding="utf-8", errors="surrogatepass")


def yolo(folder: Path) -> Path:
    (folder / "labels").mkdir()
    (folder / "images").mkdir()
    for name in "ab":
        image(".png")(folder).rename(folder / "images" / f"{name}.png")
        (folder / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.3 0.1 0.2 0.4\n")
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images\nval: images\nnc: 2\nnames: {0: cat, 1: &a dog}\nkpt_shape: [2, 3]\n"
    )
    return folder


def in_labels(random: Random, path: Path) -> None:
    in_text(random, path / random.choice(("labels/a.txt", "data.yaml", "data.yaml")), r"[\w.]+|\S")


def recipe(folder: Path) -> Path:
    (folder / "recipe.yaml").write_text(
        "model: ssdlite_mobilenet_v2\noptions: {alpha: 0.5}\nbatch: 8\nepochs: 2.5\ninput_sizes: [300, [200, 300]]\n"
        "optimizer: {kind: sgd, lr: 4e-5, betas: [0.9, 0.99]}\nschedule: &s {kind: cosine, warmup: 5}\nworkers: auto\n"
    )
    return folder / "recipe.yaml"


def in_recipe(random: Random, path: Path) -> None:
    in_text(random, path, r"[\w.]+|\S")


def results(folder: Path) -> Path:
    coco(folder)
    rows = [
        {
            "image_id": 1,
            "category_id": 1,
            "bbox": [1, 2, 3, 4],
            "score": 0.5,
            "category_name": "cat",
            "file_name": "1.png",
        }
    ]
    (folder / "results.json").write_text(json.dumps(rows * 3))
    return folder / "results.json"


def to_results(path: Path) -> None:
    read_results(path, ground_truth(open_evaluation(path.parent / "instances.json")))


TARGETS = (
    *(
        Target(ending, image(ending), any_bytes, to_pixels)
        for ending in (".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff")
    ),
    Target("transparent", image(".png", channels=4), any_bytes, to_pixels),
    Target("video", video, any_bytes, to_frames),
    Target("coco", coco, tree_in, to_data),
    Target("voc", voc, in_xml, to_data),
    Target("yolo", yolo, in_labels, to_data),
    Target("recipe", recipe, in_recipe, load_config),
    Target("results", results, tree_in, to_results),
)
