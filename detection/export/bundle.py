"""A folder that detects by itself: model, card, anchors, and one script that needs numpy, OpenCV and a runtime."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from detection.boxes.anchors import anchors_for
from detection.errors import MobileSSDError
from detection.export.single_file import inlined
from detection.export.staging import staged_folder
from detection.export.write import Wish, export
from detection.weights.card_check import spec_of
from detection.weights.resolve import open_weights

TEMPLATE = Path(__file__).with_name("bundle_detect.py")
PARTS = ("model.onnx", "model.xml", "model.bin", "model.tflite", "card.json", "anchors.npy", "detect.py")


def write_bundle(weights: str | os.PathLike, folder: Path, threads: int | None = None) -> Path:
    """Writes the folder and returns its script. Weights that are no exported file yet become ONNX, compared with their
    source. An older bundle in the folder is replaced; MobileSSDError where the folder holds anything else."""
    source = open_weights(weights)
    if source.card.interface:
        raise MobileSSDError(f"{source.path}: made for another system; name the weights it was made of")
    with staged_folder(folder, PARTS) as place:
        if source.exported:
            for file in source.format.files(source.path):
                shutil.copyfile(file, place / f"model{file.suffix}")
        else:
            export(source, Wish(place / "model.onnx", "onnx"), threads=threads)
        card = source.card
        spec = spec_of(card, source.source)
        np.save(place / "anchors.npy", anchors_for(spec.anchors, card.feature_maps, spec.input.size, card.anchor_grids))
        text = json.dumps(asdict(card) | {"training_images": []}, ensure_ascii=False, indent=1)
        (place / "card.json").write_text(text + "\n", encoding="utf-8")
        script = inlined(TEMPLATE.read_text(encoding="utf-8"))
        (place / "detect.py").write_text(script, encoding="utf-8")
    return folder / "detect.py"
