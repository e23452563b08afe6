"""Small data sets made by the tests, in each format, so that every fault can be put in on purpose."""

import json
from pathlib import Path

import cv2
import numpy as np

SIZE = (60, 80)  # height, width of the images made here


def make_image(path: Path, size=SIZE, seed=0, orientation=None) -> Path:
    """Writes a random image; `orientation` puts an EXIF tag into a JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    if orientation is None:
        assert cv2.imwrite(str(path), image)
    else:
        from PIL import Image

        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(image).save(path, exif=exif)
    return path


def coco(folder: Path, boxes, number=2, categories=("cat", "dog"), name="instances.json", **image_fields) -> Path:
    """A COCO file with `boxes` = [(image, category_id, [x, y, w, h], extra fields)], images 1..n in images/."""
    images = []
    for i in range(1, number + 1):
        make_image(folder / "images" / f"{i}.png", seed=i)
        images.append({"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1], **image_fields})
    annotations = []
    for number, (image_id, kind, box, *extra) in enumerate(boxes, 1):
        entry = {"id": number, "image_id": image_id, "category_id": kind, "bbox": box}
        annotations.append({**entry, **(extra[0] if extra else {})})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": c} for i, c in enumerate(categories, 1)],
    }
    file = folder / name
    file.write_text(json.dumps(content))
    return file


def voc_xml(path: Path, objects, size=SIZE, database="Unknown", filename="") -> None:
    """An XML file with `objects` = [(name, xmin, ymin, xmax, ymax, difficult)]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d, hard in objects
    )
    path.write_text(
        f"<annotation><filename>{filename}</filename><source><database>{database}</database></source>"
        f"<size><width>{size[1]}</width><height>{size[0]}</height></size>{parts}</annotation>"
    )


def voc(folder: Path, objects_by_stem, splits=None, database="Unknown") -> Path:
    for seed, (stem, objects) in enumerate(objects_by_stem.items()):
        voc_xml(folder / "Annotations" / f"{stem}.xml", objects, database=database)
        make_image(folder / "JPEGImages" / f"{stem}.jpg", seed=seed)
    for split, stems in (splits or {}).items():
        file = folder / "ImageSets" / "Main" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(stems) + "\n")
    return folder


def yolo(folder: Path, lines_by_split, names=("cat", "dog"), config=None) -> Path:
    """data.yaml with images/{split}/{stem}.png and labels/{split}/{stem}.txt; None for lines means no .txt file."""
    seed = 0
    for split, files in lines_by_split.items():
        for stem, lines in files.items():
            seed += 1
            make_image(folder / "images" / split / f"{stem}.png", seed=seed)
            if lines is not None:
                label = folder / "labels" / split / f"{stem}.txt"
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text("\n".join(lines) + "\n")
    text = config or "".join(f"{split}: images/{split}\n" for split in lines_by_split)
    file = folder / "data.yaml"
    file.write_text(text + f"names: [{', '.join(names)}]\n")
    return file
