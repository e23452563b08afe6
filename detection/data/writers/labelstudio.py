"""`DetectionData` as tasks of Label Studio: tasks.json, its labelling configuration, and images/. Boxes of people are
annotations, those with scores are predictions, which Label Studio shows for correction. Follows labelstud.io/guide/tasks and
/guide/predictions. Percentages of the image, from its top left corner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from detection.data.dataset import CROWD, DIFFICULT, IGNORE, DetectionData
from detection.data.writers.image_names import names_of, put_images, renamed

ADDRESS = "/data/local-files/?d="  # of the folder that LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT names
MARKS = {CROWD: "crowd", DIFFICULT: "difficult", IGNORE: "ignore"}


def write(parts: Mapping[str, DetectionData], folder: Path) -> list[str]:
    """The split of an image stands in the data of its task, where Label Studio can filter by it."""
    tasks, notes = list[dict[str, Any]](), list[str]()
    for split, data in parts.items():
        names = names_of(data, set())
        notes += renamed(data, names)
        put_images(data, names, folder / "images" / split)
        data = data.in_every_class()
        for index, name in enumerate(names):
            place = "/".join(part for part in ("images", split, name) if part)
            fields = {"image": ADDRESS + quote(place), "image_id": data.image_ids[index : index + 1].tolist()[0]}
            tasks.append({"data": {**fields, **({"split": split} if split else {})}, **_boxes(data, index)})
        notes += [f"Label Studio has no areas of outlines: not written ({split or 'all'})"] if _outlined(data) else []
    (folder / "tasks.json").write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image")
    labels = ElementTree.SubElement(view, "RectangleLabels", name="label", toName="image")
    for name in next(iter(parts.values())).class_names:
        ElementTree.SubElement(labels, "Label", value=name)
    ElementTree.ElementTree(view).write(folder / "label_config.xml", encoding="utf-8")
    return notes


def _boxes(data: DetectionData, index: int) -> dict[str, Any]:
    """annotations (one, of all that people drew) and predictions (one, of all that has a score) of a task."""
    people, model = list[dict[str, Any]](), list[dict[str, Any]]()
    height, width = data.sizes[index].tolist()
    for row in range(data.starts[index], data.starts[index + 1]):
        x, y, w, h = data.exact[row].tolist()
        value = {"x": x / width * 100, "y": y / height * 100, "width": w / width * 100, "height": h / height * 100}
        result: dict[str, Any] = {
            "id": f"box{row}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {**value, "rotation": 0, "rectanglelabels": [data.class_names[data.labels[row]]]},
        }
        if marks := [name for bit, name in MARKS.items() if data.flags[row] & bit]:
            result["meta"] = {"text": marks}
        score = float(data.scores[row])
        people.append(result) if score == 1 else model.append({**result, "score": round(score, 6)})
    predictions = [{"model_version": "mobilessd", "result": model}] if model else []
    return {"annotations": [{"result": people}] if people or not model else [], "predictions": predictions}


def _outlined(data: DetectionData) -> bool:
    return bool((abs(data.areas - data.exact[:, 2] * data.exact[:, 3]) > 0.5).any())
