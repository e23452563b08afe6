"""Eight photographs learned by heart: all parts of training pull in the same direction."""

import json
from types import SimpleNamespace

import train_runs as runs

from detection.data.open import open_data
from detection.evaluate.truth import ground_truth
from detection.train.distributed import World
from detection.train.finalize import complete_card
from detection.train.learn.job import RunProgress
from detection.train.request import Data
from detection.train.run import train
from detection.train.state import read_state
from detection.train.validate import validate
from detection.weights.checkpoint import load_checkpoint


def eight_images(pool, folder):
    """The first ones whose boxes all have sides of at least 16 pixels at 300, under names that no weights know."""
    content = json.loads((pool / "instances.json").read_text())
    boxes = {image["id"]: [] for image in content["images"]}
    for box in content["annotations"]:
        boxes[box["image_id"]].append(box)

    def large(image):
        sides = [
            300 * side / whole
            for box in boxes[image["id"]]
            for side, whole in zip(box["bbox"][2:], (image["width"], image["height"]))
        ]
        return sides and min(sides) >= 16 and not any(box["iscrowd"] for box in boxes[image["id"]])

    images = sorted(filter(large, content["images"]), key=lambda image: image["id"])[:8]
    chosen = [box for image in images for box in boxes[image["id"]]]
    categories = [{"id": i, "name": f"thing {i}"} for i in sorted({box["category_id"] for box in chosen})]
    folder.mkdir()
    (folder / "images").symlink_to(pool / "images")
    file = folder / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": chosen, "categories": categories}))
    return file


def test_eight_images_to_ap50_above_095(shared, tmp_path, monkeypatch):
    """From TensorFlow's published SSD MobileNet V1, 18 steps of all eight; every class begins with new rows, so the
    first AP50 is 0."""
    runs.without_report(monkeypatch)
    data = eight_images(shared / "data" / "coco_pool", tmp_path / "data")
    weights = str(shared / "models" / "coco_ssd_mobilenet_v1" / "detect.tflite")
    recipe = {
        "model": None,
        "options": {},
        "weights": weights,
        "input_size": None,
        "batch": 8,
        "steps": 18,
        "evaluate_every": 0,
        "augmentation": "none",
        "ema": {"decay": 0},
        "optimizer": {"kind": "adamw", "lr": 2e-3, "weight_decay": 0.0},
    }
    folder = train(runs.request(data, tmp_path / "run", select=0.0, **recipe))
    ssd, card = load_checkpoint(folder / "best.safetensors")
    found = validate(ssd, card, ground_truth(open_data(data)), "cpu", World())
    assert found.numbers.AP50 > 0.95, found.numbers
    progress = RunProgress(**read_state(folder).meta["progress"])
    assert (progress.best, progress.best_step) == (-1.0, 18), "nothing was there to choose by, so there is no best AP"
    job = SimpleNamespace(config=runs.config(**recipe), world=World(), precision="float32")
    whole = open_data(data)
    card = complete_card(card, job, progress, Data(whole, whole, None, None), found, whole)
    assert set(card.class_thresholds) <= set(whole.class_names) and 0 < min(card.class_thresholds.values()) < 1
